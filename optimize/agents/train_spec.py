"""TrainSpec: the length of a training, for every agent and in both engines."""

from dataclasses import dataclass

from envs.fields import RUN, check_ranges, setting


@dataclass(frozen=True)
class TrainSpec:
    """Settings of a training that no algorithm has as an argument; the defaults leave it as it is."""

    passes: float | None = setting(
        None, RUN, "Passes over the bars of the train span, in place of agent.total_timesteps.",
        unit="passes", above=0, null="agent.total_timesteps counts",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_ranges(self, "train")
