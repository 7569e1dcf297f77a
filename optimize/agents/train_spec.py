"""TrainSpec: the length of a training, the weights that it keeps and its perturbation, in both engines."""

from dataclasses import dataclass

from envs.errors import BadInputError
from envs.fields import RUN, check_ranges, setting


@dataclass(frozen=True)
class TrainSpec:
    """Settings of a training that no algorithm has as an argument; the defaults leave it as it is."""

    passes: float | None = setting(
        None, RUN, "Passes over the bars of the train span, in place of agent.total_timesteps.",
        unit="passes", above=0, null="agent.total_timesteps counts",
    )  # fmt: skip
    validation: float = setting(
        0.0, RUN, "Last part of the train span that the agent does not learn from, to choose its weights by.",
        unit="of the sessions", low=0, high=0.5,
    )  # fmt: skip
    eval_every: float = setting(
        0.1, RUN, "Distance of checkpoints, at which weights are averaged and the validation tail is played.",
        unit="of the training", low=0.001, high=1,
    )  # fmt: skip
    patience: int | None = setting(
        None, RUN, "Checkpoints without a better Sharpe ratio on the validation tail that end the training.",
        unit="checkpoints", low=1, null="none do",
    )  # fmt: skip
    average: int = setting(
        1, RUN, "Last checkpoints whose mean weights are the policy.", unit="checkpoints", low=1, high=1000
    )
    observation_noise: float = setting(
        0.0, RUN, "Deviation of the noise that training adds to the features of an observation.",
        unit="deviations of a feature in the train span", low=0,
    )  # fmt: skip
    column_dropout: float = setting(
        0.0, RUN, "Probability that a column of features is 0 for a whole training episode.", low=0, below=1
    )

    def __post_init__(self) -> None:
        check_ranges(self, "train")
        if self.patience is not None and not self.validation:
            raise BadInputError(
                f"train.patience={self.patience} needs a validation tail: set train.validation=0.2, or "
                "train.patience=null"
            )

    def interval(self, steps: int) -> int:
        """Return the environment steps from one checkpoint to the next of a training of so many steps."""
        return max(1, round(self.eval_every * steps))


def next_checkpoint(interval: int, steps: int) -> int:
    """Return the number of steps from which on the next checkpoint after `steps` is taken."""
    return (steps // interval + 1) * interval
