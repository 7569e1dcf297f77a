"""EnvSpec: the settings by which an environment turns actions into orders and cuts training episodes."""

import math
from dataclasses import dataclass

import numpy as np

from envs.actions import ActionSpace, action_space
from envs.errors import BadInputError, require
from envs.fields import EXAM, RUN, check_ranges, setting
from envs.orders import OrderRules
from envs.types import FloatArray

ACTION_KINDS = ("auto", "continuous", "discrete")
FILL_TIMES = ("open", "close")
EPISODE_KINDS = ("bars", "session")


@dataclass(frozen=True)
class EnvSpec:
    """Conversion of actions to orders, and length of training episodes."""

    action: str = setting(
        "auto",
        RUN,
        "Kind of action: exposures (continuous), or one of -1, 0 and 1 (discrete); auto takes the agent's.",
        choices=ACTION_KINDS,
        fixed="it decides which agents can be trained; set it for the whole study",
    )
    fill: str = setting(
        "open", RUN, "Price at which orders fill: the next bar's open, or the close that was observed.",
        choices=FILL_TIMES, fixed=EXAM,
    )  # fmt: skip
    max_leverage: float = setting(
        1.0, RUN, "Largest sum of the sizes of all exposures.", unit="times equity", above=0
    )
    rebalance_band: float = setting(
        0.01, RUN, "Smallest change of an exposure that a continuous action trades.", unit="of equity", low=0
    )
    long_only: bool = setting(
        False, RUN, "Allow no short positions; a discrete agent then chooses between flat and long."
    )
    max_weights: list[float] = setting(
        [], RUN, "Largest exposure of each asset, or one for all; empty sets no limit.",
        unit="of equity", above=0, allowed="finite numbers above 0, one for all assets or one for each",
    )  # fmt: skip
    maintenance_margin: float = setting(
        0.0, RUN, "Least equity; positions are closed at the worst price of a bar on which it is less there.",
        unit="of the size of all holdings, 0 is off", low=0, below=1, fixed=EXAM,
    )  # fmt: skip
    max_drift: float | None = setting(
        None, RUN, "Largest sum of the sizes of all holdings; above it they are cut back to their targets.",
        unit="times max_leverage", low=1, null="holdings drift freely",
    )  # fmt: skip
    episode: str = setting(
        "bars",
        RUN,
        "Training episode: episode_bars steps, or one whole session at random.",
        choices=EPISODE_KINDS,
    )
    episode_bars: int = setting(
        512, RUN, "Length of a training episode, cut to the train span where that is shorter.",
        unit="bars", low=1,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_ranges(self, "env")

    def action_space(self, n_assets: int) -> ActionSpace:
        """Return the action space of one environment."""
        return action_space(self.action == "discrete", self.long_only, n_assets)

    def weight_limits(self, n_assets: int) -> FloatArray:
        """Return the largest |exposure| of each asset (A,), infinite without a limit."""
        limits = list(self.max_weights) or [math.inf]
        allowed = f"empty, one number, or {n_assets} in the order of data.symbols"
        require(len(limits) in (1, n_assets), "env.max_weights", limits, allowed)
        return np.array(np.broadcast_to(limits, n_assets), dtype=np.float64)

    def check_assets(self, n_assets: int) -> None:
        """Refuse a number of assets that discrete actions or max_weights do not allow."""
        if self.action == "discrete" and n_assets > 1:
            raise BadInputError(
                f"env.action='discrete' is not allowed with {n_assets} assets: set env.action=continuous and "
                "an agent that can, such as agent=ppo or agent=sac, or name one symbol in data.symbols"
            )
        self.weight_limits(n_assets)

    def rules(self, n_assets: int) -> OrderRules:
        """Return the order rules of the ledger."""
        return OrderRules(
            at_open=self.fill == "open",
            discrete=self.action == "discrete",
            max_leverage=float(self.max_leverage),
            rebalance_band=float(self.rebalance_band),
            long_only=self.long_only,
            max_weight=self.weight_limits(n_assets),
            maintenance_margin=float(self.maintenance_margin),
            max_drift=math.inf if self.max_drift is None else float(self.max_drift * self.max_leverage),
        )
