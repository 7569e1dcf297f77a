"""The limits of gates and flags. Free of numpy, which the verbs that read records do not load."""

from dataclasses import dataclass

from envs.fields import SEARCH, check_ranges, setting

_NO_LIMIT = 1e6


@dataclass(frozen=True)
class ResultGateSpec:
    """Limits beyond which a result is left out of every ranking, and limits beyond which it is flagged."""

    max_drawdown: float = setting(
        0.5, SEARCH, "Deepest loss from a peak at bar closes, over all windows.", unit="of the peak",
        above=0, high=1, before=1.0,
    )  # fmt: skip
    min_equity: float = setting(
        0.2, SEARCH, "Lowest equity at a bar close, over all windows.", unit="of the starting equity",
        low=0, below=1, before=0.0,
    )  # fmt: skip
    max_exposure: float = setting(
        3.0, SEARCH, "Largest sum of the sizes of all holdings at a bar close, drift included.",
        unit="times env.max_leverage", low=1, high=_NO_LIMIT, before=_NO_LIMIT,
    )  # fmt: skip
    opposite_sign: bool = setting(
        True, SEARCH, "Leave out runs with a Sharpe ratio above 0 whose equity lost against score.risk_free.",
        before=False,
    )  # fmt: skip
    constant_policy: bool = setting(
        True, SEARCH, "Leave out runs whose action is the same on every bar of every window.", before=False
    )
    implausible_sharpe: float = setting(
        4.0, SEARCH, "Net Sharpe ratio on market data above which a run is flagged.", unit="a year", above=0
    )
    max_autocorrelation: float = setting(
        0.2, SEARCH, "Autocorrelation of the returns of neighbouring bars above which prices are flagged.",
        above=0, high=1,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_ranges(self, "gate")
