"""Keys are used where they are set, and no line, output or file gives them away."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from optimize.data.download.run import download_bars
from optimize.data.sources.clients.access import KEYS, find_keys, hide_keys, masked_line
from optimize.doctor.credentials import examine_credentials
from optimize.errors import BadInputError, DownloadError
from tests.optimize.data.sources.clients.cases import (
    ALPACA_SECRET,
    CASES,
    COINBASE_KEY,
    double_of,
    make_coinbase_key,
    point_at,
    refusal_of,
    served,
)
from tests.optimize.data.sources.clients.doubles import Double, serving


@pytest.fixture
def coinbase(market_data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    with served(CASES["coinbase"], market_data, monkeypatch) as double:
        yield double


@pytest.mark.market_data
def test_a_wrong_alpaca_key_is_one_line_without_it(
    market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    case = CASES["alpaca_stock"]
    with served(case, market_data, monkeypatch):
        monkeypatch.setenv("ALPACA_SECRET_KEY", "wrong-secret-77aa")
        text = refusal_of(case.spec_in(tmp_path))
    assert "check the environment variables ALPACA_API_KEY and ALPACA_SECRET_KEY" in text
    hidden_in(("wrong-secret-77aa", case.environment["ALPACA_API_KEY"]), text, tmp_path, capfd)


@pytest.mark.market_data
def test_alpaca_takes_its_own_names_of_the_keys_and_says_which_are_missing(
    market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["alpaca_stock"]
    with served(case, market_data, monkeypatch):
        for ours, theirs in (
            ("ALPACA_API_KEY", "APCA_API_KEY_ID"),
            ("ALPACA_SECRET_KEY", "APCA_API_SECRET_KEY"),
        ):
            monkeypatch.delenv(ours)
            monkeypatch.setenv(theirs, case.environment[ours])
        (path,) = download_bars(case.spec_in(tmp_path), print)
        assert path.is_file()
        monkeypatch.delenv("APCA_API_SECRET_KEY")
        assert "but not ALPACA_SECRET_KEY or APCA_API_SECRET_KEY" in refusal_of(case.spec_in(tmp_path / "a"))
        monkeypatch.delenv("APCA_API_KEY_ID")
        assert "set the environment variables ALPACA_API_KEY and" in refusal_of(case.spec_in(tmp_path / "b"))


@pytest.mark.market_data
def test_a_feed_that_costs_is_told_from_a_bad_key(
    market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["alpaca_stock"]
    with served(case, market_data, monkeypatch):
        text = refusal_of(case.spec_in(tmp_path, feed="sip"))
    assert "alpaca refuses data.feed=sip (set data.feed=iex" in text


@pytest.mark.market_data
def test_a_coinbase_key_is_used_and_a_wrong_one_is_one_line_without_it(
    coinbase: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    secret, coinbase.public_key = make_coinbase_key()
    coinbase.key = (COINBASE_KEY, "")
    monkeypatch.setenv("COINBASE_API_KEY", COINBASE_KEY)
    monkeypatch.setenv("COINBASE_API_SECRET", secret.replace("\n", "\\n"))
    spec = CASES["coinbase"].spec_in(tmp_path / "right")
    assert download_bars(spec, print)[0].is_file()
    assert all("/market/" not in path for path in coinbase.asked)
    other, _ = make_coinbase_key()
    for wrong in (other, "not-a-key-but-8531"):
        monkeypatch.setenv("COINBASE_API_SECRET", wrong)
        text = refusal_of(CASES["coinbase"].spec_in(tmp_path / "wrong"))
        assert "check COINBASE_API_KEY and COINBASE_API_SECRET, or unset both: its bars are public" in text
        hidden_in((COINBASE_KEY, *wrong.splitlines()[1:-1], "8531"), text, tmp_path, capfd)


@pytest.mark.market_data
def test_a_server_that_echoes_the_key_does_not_get_it_into_a_line(
    market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    case = CASES["alpaca_stock"]

    def echo(double: Double, path: str, query: Any, headers: Any) -> Any:
        return 500, {"message": f"cannot serve {headers}"}

    monkeypatch.setattr("optimize.data.sources.clients.retry.TRIES", 2)
    said: list[str] = []
    with serving(double_of(case, market_data), echo) as double:
        point_at(double, case, monkeypatch)
        with pytest.raises(DownloadError) as failure:
            download_bars(case.spec_in(tmp_path), said.append)
    assert "***" in str(failure.value)
    hidden_in((ALPACA_SECRET, "PKTESTKEY0000"), " ".join([str(failure.value), *said]), tmp_path, capfd)


@pytest.mark.market_data
@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_server_that_echoes_a_signed_request_does_not_get_its_token_into_a_line(
    status: int, market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens: list[str] = []

    def echo(double: Double, path: str, query: Any, headers: Any) -> Any:
        tokens.append(headers["Authorization"].removeprefix("Bearer "))
        return status, {"message": f"cannot serve {headers['Authorization']}"}

    secret, _ = make_coinbase_key()
    monkeypatch.setenv("COINBASE_API_KEY", COINBASE_KEY)
    monkeypatch.setenv("COINBASE_API_SECRET", secret)
    said: list[str] = []
    with serving(double_of(CASES["coinbase"], market_data), echo) as double:
        point_at(double, CASES["coinbase"], monkeypatch)
        with pytest.raises(DownloadError) as failure:
            download_bars(CASES["coinbase"].spec_in(tmp_path), said.append)
    text = " ".join([str(failure.value), *said])
    assert "cannot serve Bearer ***" in text
    for token in tokens:
        assert not any(part in text for part in token.split("."))


def hidden_in(secrets: tuple[str, ...], text: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Check that no secret is in a line, in the output or in any file."""
    out, err = capfd.readouterr()
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    for secret in secrets:
        assert secret not in text + out + err
        assert not any(secret.encode() in content for content in files)


def test_keys_are_hidden_in_every_form(monkeypatch: pytest.MonkeyPatch) -> None:
    pem = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIB\nAoGBAKx\n-----END EC PRIVATE KEY-----\n"
    monkeypatch.setenv("COINBASE_API_KEY", "organizations/9")
    monkeypatch.setenv("COINBASE_API_SECRET", pem.replace("\n", "\\n"))
    assert find_keys("coinbase") is not None
    assert hide_keys("key organizations/9 of MHcCAQEEIB and AoGBAKx") == "key *** of *** and ***"
    assert "MHcC" not in hide_keys(pem)
    assert hide_keys("?key=organizations%2F9") == "?key=***"
    assert hide_keys("https://me:secret@mirror.example/a") == "https://***@mirror.example/a"
    assert masked_line(ValueError("a\n  b")) == "a b"
    assert len(masked_line("x" * 1000)) == 300
    assert masked_line(KeyboardInterrupt()) == "KeyboardInterrupt"


@pytest.fixture
def no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty directory of invocation, without keys in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in (name for pair in KEYS.values() for names in pair for name in names):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_keys_are_read_from_dotenv_and_stay_out_of_the_environment(
    no_keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (no_keys / ".env").write_text(
        "# keys\nexport ALPACA_API_KEY='from-file-1'\nALPACA_SECRET_KEY=\"$HOME from-file-2\"\n",
        encoding="utf-8",
    )
    assert find_keys("alpaca") == ("from-file-1", "$HOME from-file-2")
    assert find_keys("coinbase") is None
    assert "ALPACA_API_KEY" not in os.environ
    assert "from-file" not in hide_keys("the key from-file-1 and $HOME from-file-2")
    monkeypatch.setenv("ALPACA_API_KEY", "from-environment-1")
    assert find_keys("alpaca") == ("from-file-1", "$HOME from-file-2")  # never a pair of two accounts
    monkeypatch.setenv("ALPACA_SECRET_KEY", "from-environment-2")
    assert find_keys("alpaca") == ("from-environment-1", "from-environment-2")


@pytest.mark.parametrize("content", [b"\xff\xfeA\x00", b""])
def test_a_dotenv_without_keys_or_text(no_keys: Path, content: bytes) -> None:
    (no_keys / ".env").write_bytes(content)
    if content:
        with pytest.raises(BadInputError, match=r"\.env cannot be read \(it is not UTF-8 text\)"):
            find_keys("alpaca")
    else:
        assert find_keys("alpaca") is None


def test_half_a_pair_in_dotenv_is_refused_without_its_value(no_keys: Path) -> None:
    (no_keys / ".env").write_text("COINBASE_API_KEY=half-of-it\n", encoding="utf-8")
    with pytest.raises(BadInputError, match="COINBASE_API_KEY, but not COINBASE_API_SECRET") as refused:
        find_keys("coinbase")
    assert "half-of-it" not in str(refused.value)


@pytest.mark.market_data
def test_the_doctor_asks_each_configured_provider_once(
    market_data: Path, no_keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(examine_credentials()) == []
    case = CASES["alpaca_stock"]
    with served(case, market_data, monkeypatch) as double:
        (accepted,) = examine_credentials()
        assert (accepted.level, accepted.said) == ("ok", "alpaca accepts its keys")
        assert len(double.asked) == 1
        monkeypatch.setenv("ALPACA_SECRET_KEY", "wrong-secret-77aa")
        (refused,) = examine_credentials()
    assert refused.level == "FAIL"
    assert "alpaca refuses the key" in refused.said
    assert "wrong-secret-77aa" not in refused.said
