"""SearchSpec: the search space, its sampler, pruner, phases and seed."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envs.fields import EXAM, SEARCH, check_ranges, group, setting
from optimize.data.timeframes import DAY_NS, HOUR_NS, timeframe_name, timeframe_ns
from optimize.errors import LARGEST_COUNT, require
from optimize.evaluate.gate_spec import ResultGateSpec

PRUNER_NAMES = ("median", "none", "successive_halving")
SAMPLER_NAMES = ("tpe", "random", "qmc", "grid", "cmaes")
TIMEFRAME_PHASE = "timeframe"
MODEL_PHASE = "model"
TIMEFRAME, LOOKBACK = "data.timeframe", "feature.lookback"  # searched by phase 1
INDICATORS = "feature.indicators"
STEPS = (1, 2, 4, 6)  # times data.timeframe, that phase 1 searches where nothing else is listed
SETS = "a list of mappings, such as [{agent.learning_rate: 0.001}]"
LONGEST_STEP_NS = 12 * HOUR_NS  # longer ones divide a day, so that none of its bars is a remainder


def model_space(
    space: Mapping[str, Any], timeframes: Sequence[Any], lookbacks: Sequence[Any]
) -> dict[str, Any]:
    """Return the space of phase 2: that of the model, at the timeframes and lookbacks that phase 1 kept.

    Two lists hold every pairing of their values, also pairs that were not kept.
    """
    found = {key: value for key, value in space.items() if key not in ("data", "feature")}
    data, feature = (dict(space.get(key) or {}) for key in ("data", "feature"))
    found["data"] = data | {"timeframe": list(timeframes)}
    if "choices" in feature:  # files of the group
        return found | {"feature": feature, LOOKBACK: list(lookbacks)}
    return found | {"feature": feature | {"lookback": list(lookbacks)}}


@dataclass(frozen=True)
class SamplerSpec:
    """How the next trial's parameters are chosen; multivariate None leaves Optuna's default."""

    name: str = setting(
        "tpe", SEARCH, "How the parameters of the next trial are chosen.", choices=SAMPLER_NAMES
    )
    n_startup_trials: int = setting(
        10, SEARCH, "Trials that are drawn at random before the sampler learns.", unit="trials", low=1
    )
    multivariate: bool | None = setting(
        None, SEARCH, "Whether TPE draws all parameters jointly.", null="Optuna's default"
    )
    group: bool = setting(
        False, SEARCH, "Whether TPE draws those parameters jointly that are active together."
    )

    def __post_init__(self) -> None:
        check_ranges(self, "sampler")
        joint = not (self.group and self.multivariate is False)
        require(joint, "sampler.group", self.group, "false where sampler.multivariate is false")


@dataclass(frozen=True)
class PrunerSpec:
    """How trials are stopped early."""

    name: str = setting("median", SEARCH, "Rule that stops a trial early.", choices=PRUNER_NAMES)
    n_startup_trials: int = setting(
        8, SEARCH, "Ended trials before any is stopped early.", unit="trials", low=1
    )
    n_warmup_steps: int = setting(
        1, SEARCH, "First windows of a trial after which it is not stopped.", unit="windows", low=0
    )
    exempt_share: float = setting(
        0.1, SEARCH, "Part of the trials, drawn at random, that is never stopped.", unit="of the trials",
        low=0, high=1,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_ranges(self, "pruner")


@dataclass(frozen=True)
class TimeframePhaseSpec:
    """Phase 1: a grid of timeframe x lookback with the same number of trials for each combination."""

    n_trials: int = setting(
        100, SEARCH, "Number of trials of phase 1.", unit="trials", low=1, high=LARGEST_COUNT
    )
    timeframes: list[str] = setting(
        ["1h", "4h"],
        SEARCH,
        "Timeframes to compare; empty makes them of data.timeframe.",
        changeable=False,
    )
    lookbacks: list[int] = setting(
        [1, 4], SEARCH, "Lookbacks to compare.", unit="bars", low=1, changeable=False
    )
    confidence: float = setting(
        0.90, SEARCH, "Confidence with which the best combination is among those that are kept.",
        low=0.5, below=1,
    )  # fmt: skip
    bootstraps: int = setting(1000, SEARCH, "Bootstrap samples of the comparison.", low=100)
    screen: str = setting(
        "none", SEARCH,
        "Combinations dropped before any agent is trained: none, or those hopeless by a linear probe.",
        choices=("none", "probe"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_ranges(self, "phase.timeframe")
        for timeframe in self.timeframes:
            timeframe_ns(timeframe, "phase.timeframe.timeframes")
        require(bool(self.lookbacks), "phase.timeframe.lookbacks", [], "a list with at least one value")
        combinations = len(self.timeframes) * len(self.lookbacks)
        for key in ("timeframes", "lookbacks"):
            values = getattr(self, key)
            require(len(set(values)) == len(values), f"phase.timeframe.{key}", values, "free of duplicates")
        if not combinations:  # until data.timeframe is known
            return
        require(
            self.n_trials >= 2 * combinations and self.n_trials % combinations == 0,
            "phase.timeframe.n_trials",
            self.n_trials,
            f"a multiple of the {combinations} combinations of timeframe x lookback, at least two trials "
            f"each (a spread needs two), such as {2 * combinations}",
        )

    def starting_from(self, timeframe: str) -> "TimeframePhaseSpec":
        """Return the grid; where it lists none, of a timeframe and as many multiples as n_trials serve."""
        if self.timeframes:
            return self
        own_ns = timeframe_ns(timeframe)
        steps = [step * own_ns for step in STEPS]
        if steps[-1] > LONGEST_STEP_NS:
            steps = [length for length in range(own_ns, DAY_NS + 1, own_ns) if DAY_NS % length == 0]
        names = [name for length in steps[: len(STEPS)] if (name := timeframe_name(length))]
        each = len(self.lookbacks)
        served = (most for most in range(len(names), 1, -1) if self.n_trials % (most * each) == 0)
        many = next((most for most in served if self.n_trials >= 2 * most * each), 1)
        return dataclasses.replace(self, timeframes=names[:many])


@dataclass(frozen=True)
class PhaseSpec:
    """One study (single), or timeframe first and model second (two), or the first alone."""

    kind: str = setting(
        "single",
        SEARCH,
        "One study (single), timeframe first and model second (two), or the first alone (timeframe_only).",
        choices=("single", "two", "timeframe_only"),
    )
    timeframe: TimeframePhaseSpec = group(TimeframePhaseSpec, "The search for timeframe and lookback.")

    def __post_init__(self) -> None:
        check_ranges(self, "phase")


@dataclass(frozen=True)
class StartSpec:
    """Parameter sets that a study tries before those that its sampler draws; they count in the cap."""

    enqueue: list[dict[str, Any]] = setting(
        [], SEARCH, "Parameter sets to try first, each a mapping of searched keys; the others are drawn."
    )
    start_from: str | None = setting(
        None, SEARCH, "Earlier study on the same instrument whose best parameter sets are tried first.",
        null="none",
    )  # fmt: skip
    top_n: int = setting(
        10, SEARCH, "Best parameter sets taken from search.start_from.", unit="parameter sets", low=1,
        high=LARGEST_COUNT,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_ranges(self, "search")
        for each in self.enqueue:
            require(isinstance(each, Mapping) and bool(each), "search.enqueue", each, SETS)
        require(self.start_from != "", "search.start_from", "", "the name of a study, or null")


@dataclass(frozen=True)
class SearchSpec:
    """The search over configurations: space, sampler, pruner, gates, phases and seed."""

    seed: int = setting(
        0, SEARCH, "Seed that every random draw of the study starts from.", low=0, high=2**63 - 1,
        allowed="from 0 to 2**63 - 1", fixed=EXAM,
    )  # fmt: skip
    space: dict[str, Any] = setting({}, SEARCH, "Tree of the keys to search, each with its range or choices.")
    sampler: SamplerSpec = group(SamplerSpec, "How trials are drawn.", role=SEARCH)
    pruner: PrunerSpec = group(PrunerSpec, "How trials are stopped early.", role=SEARCH)
    search: StartSpec = group(StartSpec, "Parameter sets that are tried first.", role=SEARCH)
    gate: ResultGateSpec = group(
        ResultGateSpec, "Limits beyond which a result is not ranked.", role=SEARCH, fixed=EXAM
    )
    # The grid of phase 1 is its space, and a study with another space is refused.
    phase: PhaseSpec = group(PhaseSpec, "One study or two.", role=SEARCH, changeable=True)

    def __post_init__(self) -> None:
        check_ranges(self, of=SearchSpec)
