"""Keys that an extension declares, on the command line and in yaml."""

from dataclasses import replace
from pathlib import Path

import pytest

from envs.plain import to_plain
from optimize import compose, extensions
from optimize.data.features.registry import FEATURES
from optimize.data.features.spec import FEATURE_KEYS
from optimize.database import open_engine
from optimize.errors import BadInputError
from optimize.results.creation import create_tables
from optimize.results.records import save_study
from tests.optimize.cli.conftest import Run
from tests.optimize.results.factories import make_study
from tests.optimize.test_extension_keys import CODE

INDICATORS = "feature.indicators=[returns,wave]"


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "my_wave.py"
    path.write_text(CODE, encoding="utf-8")
    return ["name=waves", f"extensions=[{path}]", INDICATORS]


def test_a_command_sets_a_key_of_an_extension(words: list[str]) -> None:
    spec = compose("study", [*words, "feature.wave_length=7"])
    assert spec.feature.parameters == {"wave_length": 7}
    assert compose("walk-forward", [*words, "+feature.wave_length=7"]).feature == spec.feature
    assert compose("study", words).feature.parameters == {}


def test_a_yaml_file_sets_a_key_of_an_extension(words: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "my_conf" / "feature"
    folder.mkdir(parents=True)
    (folder / "waves.yaml").write_text("defaults: [minimal]\nwave_length: 9\n", encoding="utf-8")
    place = f"hydra.searchpath=[{folder.parent}]"
    assert compose("study", [*words, place, "feature=waves"]).feature.parameters == {"wave_length": 9}
    with pytest.raises(BadInputError, match=r"feature/waves.yaml, line 2: there is no key 'feature.wave_len"):
        compose("study", ["name=waves", place, "feature=waves"])


@pytest.mark.slow
def test_a_key_may_refer_to_another_key(words: list[str]) -> None:
    spec = compose("study", [*words, "feature.wave_length=${feature.lookback}", "feature.lookback=4"])
    assert spec.feature.parameters == {"wave_length": 4}


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("feature.wave_lenght=7", r"did you mean feature.wave_length\?"),
        ("feature.wave_length=1", r"feature.wave_length=1 is not allowed: .*from 2 to 50 \(bars\)"),
        pytest.param(
            "feature.parameters={wave_length:3}", r"feature.parameters is not a key", marks=pytest.mark.slow
        ),
        pytest.param("env.wave_length=7", r"there is no key 'env.wave_length'", marks=pytest.mark.slow),
    ],
)
def test_a_wrong_key_or_value_is_refused_once_extensions_are_loaded(
    words: list[str], word: str, problem: str
) -> None:
    with pytest.raises(BadInputError, match=problem):
        compose("study", [*words, word])


def test_without_extensions_a_key_is_unknown() -> None:
    with pytest.raises(BadInputError, match=r"^there is no key 'feature.lookbak'.*did you mean feature.look"):
        compose("study", ["name=x", "feature.lookbak=7"])
    with pytest.raises(BadInputError, match=r"^there is no key 'feature.parameters'"):
        compose("study", ["name=x", "feature.parameters={lookback:3}"])


@pytest.mark.slow
def test_data_builds_the_market_of_a_key(words: list[str], run: Run) -> None:
    market = ("data=synthetic", "data.synthetic.bars=400", "session.calendar=24/7", "format=json")
    folders = set()
    for length in (5, 9):
        code, out, error = run("data", *words[1:], *market, f"feature.wave_length={length}")
        assert code == 0, error
        folders.add(out[out.index('"cached"') :])
    assert len(folders) == 2
    assert run("data", *words[1:], *market, "feature.wave_lenght=7")[0] == 2


def _forget() -> None:
    """Forget the extension, as a new process knows none."""
    extensions._LOADED.clear()
    del FEATURES["wave"], FEATURE_KEYS["wave_length"]


def test_a_resume_by_name_knows_the_keys_of_the_stored_extensions(
    words: list[str], run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str
) -> None:
    place = f"database.url={database_url}"
    typed = [*words, "feature.wave_length=7", "data=synthetic", place]
    engine = open_engine(database_url)
    create_tables(engine)
    with engine.begin() as conn:
        save_study(conn, replace(make_study("waves"), spec=to_plain(compose("study", typed))))
    engine.dispose()
    _forget()
    code, _, error = run("study", "name=waves", place, "feature.wave_length=9")
    assert (code, error.splitlines()[-1]) == (2, "  feature.wave_length: started with 7, now 9")
    _forget()
    code, _, error = run("study", "name=waves", place, "feature.wave_lenght=9")
    assert (code, error.count("\n")) == (2, 1)
    assert "did you mean feature.wave_length?" in error
    _forget()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    code, _, error = run("study", "name=waves", place, "feature.wave_length=9")
    assert code == 2
    assert "study 'waves' runs code that no command of yours has named" in error
