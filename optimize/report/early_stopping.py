"""Early stopping in notes, pages and cards: how the weights were chosen, and the steps of each training."""

from collections.abc import Sequence

from envs.plain import from_plain
from optimize.agents.train_spec import TrainSpec
from optimize.report.format import in_percent
from optimize.results.records import RunRecord, WindowRecord

VALIDATION = "validation Sharpe: of the kept checkpoint on the end of its train span, the best of several"


def train_settings(run: RunRecord) -> TrainSpec:
    """Return the training settings of a run; the defaults where it is older than they are."""
    return from_plain(TrainSpec, run.spec.get("train", {}))


def has_validation(run: RunRecord, windows: Sequence[WindowRecord]) -> bool:
    """Return whether checkpoints were chosen on a validation tail, and the windows have their figures."""
    return train_settings(run).validation > 0 and any(each.trained_steps is not None for each in windows)


def choice_of_weights(train: TrainSpec) -> str:
    """Return sentences on the weights that each training kept, empty where it kept its last ones."""
    averaged = f"the mean of the weights at the last {train.average} checkpoints"
    if not train.validation:
        return f"Each training kept {averaged}." if train.average > 1 else ""
    ended = "" if train.patience is None else f" and ended after {train.patience} without a better one"
    means = f" A checkpoint is {averaged}." if train.average > 1 else ""
    return (
        "Each training kept the checkpoint with the best Sharpe ratio on the last "
        f"{in_percent(train.validation, 0)} of the sessions of its train span{ended}.{means}"
    )
