"""A configuration cannot run code, read secrets or fill the memory."""

import json
import time
from pathlib import Path

import pytest

from optimize.cli.dispatch import compose_configs
from optimize.errors import BadInputError
from tests.optimize.cli.conftest import Run

CANARY = "canary.txt"
TARGET = f"{{_target_: shutil.copyfile, src: seed.txt, dst: {CANARY}}}"
WORDS = [
    [f"+hydra.callbacks.x={TARGET.replace(' ', '')}"],
    ["++hydra.callbacks.x._target_=shutil.copyfile"],
    ["hydra/launcher=basic"],
    ["hydra.launcher._target_=os.system"],
    ["hydra.sweeper._target_=os.system", "-m"],
    ["hydra.run.dir=."],
    ["hydra.output_subdir=out"],
    ["hydra.job_logging.handlers.file.filename=canary.txt"],
    ["+cost@hydra.callbacks=zero"],
    ["~hydra"],
    ["--experimental-rerun", "config.pickle"],
    ["--experimental-rerun=config.pickle"],
    ["--config-path=pkg://own"],
    ["hydra.searchpath=[pkg://own]"],
    ["hydra.searchpath=[/nowhere]"],
    ["-cd", "nowhere"],
    ["+agent._target_=os.system"],
]
FILES = {
    "hydra": f"# @package _global_\nhydra:\n  callbacks:\n    x: {TARGET}\n",
    "package": f"# @package hydra.callbacks\nx: {TARGET}\n",
    "defaults": "# @package _global_\ndefaults:\n  - override /hydra/launcher: basic\n",
    "target": f"# @package _global_\nagent: {TARGET}\n",
    "python": "# @package _global_\nname: !!python/object/apply:os.system ['touch canary.txt']\n",
    "deep": "# @package _global_\nname: " + "[" * 500 + "]" * 500 + "\n",
    "itself": "# @package _global_\nname: &a [*a]\n",
    "aliases": "# @package _global_\n"
    + "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)),
    "long": "# @package _global_\n# " + "x" * 2_000_000 + "\n",
    "secret": "# @package _global_\nname: ${oc.env:WALKFORGE_SECRET}\n",
    "growing": "# @package _global_\nspace:\n"
    + "".join(f"  a{n}: '${{space.a{n + 1}}}${{space.a{n + 1}}}'\n" for n in range(40))
    + "  a40: x\n",
    "circle": "# @package _global_\nname: ${output_dir}\noutput_dir: ${name}\n",
}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Return a folder of the user's files, beside a module that writes the canary when it is imported."""
    (tmp_path / "seed.txt").write_text("x", encoding="utf-8")
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "__init__.py").write_text(f"open({CANARY!r}, 'w').close()\n", encoding="utf-8")
    return tmp_path / "own"


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_a_word_runs_no_code(run: Run, own: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.syspath_prepend(str(own.parent))
    code, out, err = run("status", "name=x", *words)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert not (own.parent / CANARY).exists()
    assert sorted(path.name for path in own.parent.iterdir()) == ["own", "seed.txt"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", ["experiment", "local"])
def test_a_file_runs_no_code_and_is_refused_at_once(
    run: Run, own: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: str
) -> None:
    monkeypatch.setenv("WALKFORGE_SECRET", "sesame-sesame")
    (own / place).mkdir(exist_ok=True)
    file = own / place / ("default.yaml" if place == "local" else "mine.yaml")
    file.write_text(FILES[name], encoding="utf-8")
    began = time.process_time()
    chosen = ["experiment=mine"] if place == "experiment" else []
    code, out, err = run("study", "-cd", str(own), *chosen)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert "Traceback" not in err
    assert "sesame" not in err
    assert not (own.parent / CANARY).exists()
    assert time.process_time() - began < 20  # doubled values would take hours


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("n_trialz: 3\n", "mine.yaml, line 2: there is no key 'n_trialz'"),
        (
            "n_trials: many\n",
            "mine.yaml, line 2: n_trials='many' is not allowed: n_trials must be a whole number",
        ),
        ("agent:\n  total_timesteps: 5\n\tnet: tiny\n", "mine.yaml, line 4: a tab: indent with spaces"),
        ("seed: 1\nseed: 2\n", "mine.yaml, line 3: found duplicate key seed"),
        ("window: {count: [1]}\n", "mine.yaml, line 2: window.count"),
        ("name: [1, 2\n", "mine.yaml, line"),
        ("data:\n  symbols: btc\n", "mine.yaml, line 3: data.symbols must be a list"),
    ],
)
def test_an_error_in_a_file_names_file_line_and_reason(run: Run, own: Path, text: str, words: str) -> None:
    (own / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}", encoding="utf-8")
    code, out, err = run("study", "name=x", "-cd", str(own), "experiment=mine")
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert words in err


def test_a_folder_of_own_files_still_composes(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nname: mine\noutput_dir: ${oc.env:HOME}/studies\n", encoding="utf-8"
    )
    monkeypatch.setenv("HOME", "/home/me")
    for words in (["-cd", str(own)], [f"hydra.searchpath=[file://{own}]"], [f"--config-dir={own}"]):
        (config,) = compose_configs("study", [*words, "experiment=mine"])
        assert (config.name, config.output_dir) == ("mine", "/home/me/studies")


def test_a_sweep_too_large_is_refused() -> None:
    with pytest.raises(BadInputError, match="more than 1,000 jobs"):
        compose_configs("study", ["-m", "name=x", "seed=range(0,1000000000)"])


def test_what_is_shown_needs_no_secret_of_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "sesame-sesame")
    code, _, err = run("study", "name=sesame-sesame.x")
    assert (code, "sesame" in err) == (2, False), json.dumps(err)
