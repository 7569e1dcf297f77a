import sys
from itertools import product
from pathlib import Path

import pytest

from optimize.cli.dispatch import VERBS, compose_configs
from optimize.errors import BadInputError
from optimize.schemas.register import schema_of
from optimize.schemas.studies import to_spec
from optimize.search.rules import why_unsearchable
from optimize.search.space import lint_space, parse_space
from optimize.study.spec import StudySpec
from tests.conftest import REPOSITORY
from tests.tiers import mostly_slow

CONF = REPOSITORY / "conf"
SPAN = "{train_start: 2017-03-01, train_end: 2017-06-01, test_start: 2017-06-01, test_end: 2017-09-01}"
NEEDED = {
    "window=canonical": [f"window.spans=[{SPAN}]"],
    "data=file": ["data.path=bars.csv"],
    "feature=indicators": ["feature.indicators=[rsi,adx,stochastic]"],
}
OWN_BARS = {"two_phase": ["data.path=bars.csv"]}  # experiments on a file of the user's
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
AGENTS = sorted(path.stem for path in (CONF / "agent").glob("[!_]*.yaml"))


def options() -> list[str]:
    files = [
        path
        for path in sorted(CONF.glob("*/*.yaml"))
        if path.parent.name not in ("experiment", "gate", "local") and not path.stem.startswith("_")
    ]
    return [f"{path.parent.name}={path.stem}" for path in files]


COMPOSED = [(option, "study") for option in options()[::5]]  # composing takes a third of a second
SOME_OPTIONS = mostly_slow(product(options(), ["study", "walk-forward"]), *COMPOSED)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["walkforge"])
    hours = [f"2024-01-{day:02d} {hour:02d}:00,1,2,0.5,1.5,10" for day in (1, 2) for hour in range(24)]
    Path("bars.csv").write_text("\n".join(["timestamp,open,high,low,close,volume", *hours]), encoding="utf-8")


def spec_of(*overrides: str, verb: str = "study") -> StudySpec:
    (config,) = compose_configs(verb, list(overrides))
    return to_spec(config)


@pytest.mark.parametrize(("option", "verb"), SOME_OPTIONS)
def test_every_option_composes(option: str, verb: str) -> None:
    spec = spec_of("name=x", option, *NEEDED.get(option, []), verb=verb)
    assert spec.name == "x"


@pytest.mark.parametrize("option", [each for each in options() if each.split("=")[0] in ("data", "session")])
def test_every_market_option_composes_for_data(option: str) -> None:
    (config,) = compose_configs("data", [option])
    assert isinstance(config, schema_of("data"))


def test_every_gate_composes_for_export_and_a_typed_key_wins() -> None:
    found = {}
    for path in sorted((CONF / "gate").glob("[!_]*.yaml")):
        (found[path.stem],) = compose_configs("export", [f"gate={path.stem}"])
    assert found["none"].describe().startswith("gates: none")
    assert found["default"].describe() == "gates: min_selection_score=0.0, max_luck_p=0.05"
    assert (found["hundred_trials"].min_finished_trials, found["hundred_trials"].min_score) == (100, 0.1)
    assert all(found["strict"].describe().count(name) for name in ("max_luck_p=0.05", "beat=buy_and_hold"))
    (typed,) = compose_configs("export", ["gate=strict", "min_score=2", "beat=null"])
    assert (typed.min_score, typed.beat, typed.min_finished_trials) == (2.0, None, 100)


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_verb_has_a_primary_yaml_of_its_schema(verb: str) -> None:
    (config,) = compose_configs(verb, [])
    assert type(config) is schema_of(verb)


@pytest.mark.parametrize(
    ("experiment", "debug"),
    mostly_slow(
        product(EXPERIMENTS, [[], ["debug=tiny"]]),
        *product(["quickstart", "two_phase"], [[], ["debug=tiny"]]),
    ),
)
def test_every_experiment_composes(experiment: str, debug: list[str]) -> None:
    spec = spec_of(f"experiment={experiment}", *OWN_BARS.get(experiment, []), *debug)
    assert spec.name == experiment
    if debug:
        assert spec.n_trials == 2
        assert spec.agent.total_timesteps <= 512
        assert spec.worker.count == 1


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_names_its_command_at_its_top(experiment: str) -> None:
    head = (CONF / "experiment" / f"{experiment}.yaml").read_text(encoding="utf-8").splitlines()[:2]
    assert head[0] == "# @package _global_"  # Hydra reads it nowhere but in front of every other comment
    assert head[1].startswith(f"# walkforge study experiment={experiment}")


def test_the_command_line_beats_debug_beats_experiment_beats_defaults() -> None:
    assert spec_of("experiment=quickstart").window.count == 3
    assert spec_of("experiment=quickstart", "debug=tiny").window.count == 2
    assert spec_of("experiment=quickstart", "debug=tiny", "window.count=5").window.count == 5
    assert spec_of("experiment=quickstart", "debug=tiny", "phase=single").phase.kind == "single"


@pytest.mark.parametrize(
    ("timeframe", "months", "timeframes"),
    [("5m", 12, ["5m", "10m"]), ("1h", 12, ["1h", "2h"]), ("6h", 60, ["6h", "12h"]), ("1d", 60, ["1d"])],
)
def test_tiny_depends_on_the_timeframe(timeframe: str, months: int, timeframes: list[str]) -> None:
    """Features settle over bars, so coarser ones need more months, and phase 1 knows no finer ones."""
    spec = spec_of("name=x", "debug=tiny", "phase=two", f"data.timeframe={timeframe}")
    assert (spec.data.months, spec.phase.timeframe.timeframes) == (months, timeframes)
    assert spec_of("name=x", "debug=tiny", "data.months=7").data.months == 7


def test_phase_one_searches_from_the_timeframe_of_its_file() -> None:
    lines = ["timestamp,open,high,low,close,volume"]
    lines += [f"2024-01-01 {at // 60:02d}:{at % 60:02d},1,2,0.5,1.5,10" for at in range(0, 600, 5)]
    Path("bars.csv").write_text("\n".join(lines), encoding="utf-8")
    spec = spec_of("name=x", "data=file", "data.path=bars.csv", "phase=two")
    assert spec.phase.timeframe.timeframes == ["5m", "10m", "20m", "30m"]
    assert spec_of("name=x", "phase=two").phase.timeframe.timeframes == ["1h", "2h", "4h", "6h"]


def test_a_local_file_beats_defaults_and_not_the_experiment(tmp_path: Path) -> None:
    folder = tmp_path / "own" / "local"
    folder.mkdir(parents=True)
    text = "# @package _global_\nn_trials: 77\noutput_dir: elsewhere\n"
    (folder / "default.yaml").write_text(text, encoding="utf-8")
    search = f"hydra.searchpath=[file://{folder.parent}]"
    assert spec_of("name=x", search).n_trials == 77
    assert spec_of("experiment=quickstart", search).n_trials == 12
    assert spec_of("experiment=quickstart", search).output_dir == "elsewhere"


@pytest.mark.parametrize("agent", mostly_slow(AGENTS, "ppo", "sac"))
def test_the_agent_chooses_its_space_and_its_defaults_lie_in_it(agent: str) -> None:
    spec = spec_of("name=x", f"agent={agent}")
    space = parse_space(spec.space)
    assert space.parameters
    lint_space(space, spec, lambda path: why_unsearchable(spec, space, path))


def test_what_a_user_types_for_own_bars_is_enough() -> None:
    typed = ["name=btc", "data=file", "data.path=bars.csv", "phase=single", "n_trials=20", "worker.count=4"]
    spec = spec_of(*typed)
    assert (spec.data.path, spec.n_trials, spec.worker.count) == ("bars.csv", 20, 4)
    assert spec.agent.total_timesteps == 20_000
    assert spec.window.count == 4


def test_the_real_size_is_the_real_size() -> None:
    spec = spec_of("experiment=two_phase", "data.path=bars.csv")
    assert (spec.phase.timeframe.n_trials, spec.n_trials) == (100, 1000)


def test_the_older_name_of_the_events_that_are_notified_is_read_on_a_command_line_and_in_a_file() -> None:
    (typed,) = compose_configs("study", ["name=x", "notify.on=[stop]"])
    assert typed.notify.events == ["stop"]
    folder = Path("own/experiment")
    folder.mkdir(parents=True)
    text = '# @package _global_\nnotify:\n  "on": [finish]\n'
    (folder / "mine.yaml").write_text(text, encoding="utf-8")
    (written,) = compose_configs("study", ["name=x", "-cd", "own", "experiment=mine"])
    assert written.notify.events == ["finish"]


def test_shared_files_are_no_choices_of_their_group() -> None:
    with pytest.raises(BadInputError, match=r"cost=nosuch is not allowed: .*choices are crypto, default,"):
        compose_configs("study", ["name=x", "cost=nosuch"])
