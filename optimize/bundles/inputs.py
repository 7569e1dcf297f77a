"""The inputs of the readable files of a bundle: the run, its results, its baselines and its search."""

from collections.abc import Sequence
from dataclasses import dataclass

from optimize.bundles.gates import GateCheck
from optimize.evaluate.baselines import Baseline
from optimize.evaluate.captions import BUY_AND_HOLD, LINEAR_PROBE, baseline_label, best_baseline
from optimize.evaluate.summary import WindowResult
from optimize.results.luck import LuckRecord, LuckTest
from optimize.results.records import RunRecord
from optimize.results.runs import parameter_set
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.probe import evaluate_probe
from optimize.walkforward.refit import RefitPlan
from optimize.walkforward.run import evaluate_baselines
from optimize.walkforward.spec import RunSpec

LABEL = (
    "trained on the last window, first repeat; score not measured on this very model: "
    "it is the evidence of the models of all windows"
)
REFIT_LABEL = (
    "refit: trained on every session before {until} with the seed of the median repeat; score not measured "
    "on this very model: it is the evidence of the models of all windows"
)


@dataclass(frozen=True)
class StudyBaseline:
    """The best baseline of a study over all its timeframes."""

    name: str
    timeframe: str
    score: float


@dataclass(frozen=True)
class SearchSummary:
    """The search behind a trial: number of trials of all phases, best baseline, luck; None: not known."""

    tries: int | None = None
    baseline: StudyBaseline | None = None
    holdout_openings: int | None = None  # before the export
    luck: LuckTest | None = None  # of the study
    sets: tuple[LuckRecord, ...] = ()  # luck of its parameter sets
    cautions: tuple[str, ...] = ()  # flags of the trial of a verdict FOUND
    earned: tuple[str, ...] = ()  # lines on the Sharpe ratio that the search itself earned

    def luck_of(self, run: RunRecord) -> LuckRecord | None:
        """Return the luck of a run's parameter set; that of a finalist is of the run that the search made."""
        of_set = parameter_set(run.parameters)
        return next((each for each in self.sets if of_set == each.parameter_set), None)


NO_SEARCH = SearchSummary()


@dataclass(frozen=True, eq=False)
class BundleInputs:
    """All inputs of the readable files of a bundle."""

    spec: RunSpec
    run: RunRecord
    windowed: WindowedMarket
    measured: tuple[tuple[WindowResult, ...], ...]  # [repeat][window]
    baselines: tuple[Baseline, ...]  # on the same windows with the same costs
    search: SearchSummary = NO_SEARCH
    refit: RefitPlan | None = None  # of the deployable policy; None: that of the last window, first repeat
    checks: tuple[GateCheck, ...] | None = None  # gates that it passed; None: not stored by older versions

    @property
    def label(self) -> str:
        """Return the origin of the deployable policy."""
        return LABEL if self.refit is None else REFIT_LABEL.format(until=self.refit.trained_until)

    @property
    def hold(self) -> Baseline:
        """Return buy_and_hold with the same rules as the trial."""
        return next(each for each in self.baselines if each.name == BUY_AND_HOLD)

    @property
    def probe(self) -> Baseline | None:
        """Return the linear probe on the trial's inputs; None where only plain baselines were evaluated."""
        return next((each for each in self.baselines if each.name == LINEAR_PROBE), None)

    @property
    def best_baseline(self) -> Baseline | None:
        """Return the baseline with the highest score."""
        return best_baseline(self.baselines)


def collect_inputs(
    spec: RunSpec,
    run: RunRecord,
    windowed: WindowedMarket,
    measured: Sequence[Sequence[WindowResult]],
    search: SearchSummary = NO_SEARCH,
    refit: RefitPlan | None = None,
    checks: tuple[GateCheck, ...] | None = None,
) -> BundleInputs:
    """Evaluate the baselines and the linear probe, and join them with a trial's results."""
    found = (*evaluate_baselines(spec, windowed, run.entropy[0]), evaluate_probe(spec, windowed).baseline)
    rows = tuple(tuple(row) for row in measured)
    return BundleInputs(spec, run, windowed, rows, found, search, refit, checks)


def label_of(baseline: Baseline) -> str:
    """Return the label of a baseline, with its turnover where it has one."""
    name = baseline.name if baseline.turnover is None else f"{baseline.name}_{baseline.turnover:g}"
    return baseline_label(name, baseline.bought_anew)
