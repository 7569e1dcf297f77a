"""TrainSpec: the length of a training and its perturbation, for every agent and in both engines."""

from dataclasses import dataclass

from envs.fields import RUN, check_ranges, setting


@dataclass(frozen=True)
class TrainSpec:
    """Settings of a training that no algorithm has as an argument; the defaults leave it as it is."""

    passes: float | None = setting(
        None, RUN, "Passes over the bars of the train span, in place of agent.total_timesteps.",
        unit="passes", above=0, null="agent.total_timesteps counts",
    )  # fmt: skip
    observation_noise: float = setting(
        0.0, RUN, "Deviation of the noise that training adds to the features of an observation.",
        unit="deviations of a feature in the train span", low=0,
    )  # fmt: skip
    column_dropout: float = setting(
        0.0, RUN, "Probability that a column of features is 0 for a whole training episode.", low=0, below=1
    )

    def __post_init__(self) -> None:
        check_ranges(self, "train")
