"""Names of baselines and meanings of standard errors in tables and pictures."""

BUY_AND_HOLD = "buy_and_hold"
BUY_AND_HOLD_OVERNIGHT = "buy_and_hold_overnight"  # in markets whose sessions end flat: bought once a window
REBOUGHT = "bought anew each session"
REBOUGHT_REASON = f"{REBOUGHT}, as sessions end flat"
ERROR_MEANINGS = {  # meaning of the standard error for each kind of score
    "joined": "of the Sharpe ratio of these sessions, with their autocorrelation",
    "mean_window": "of the mean over windows, from 4 windows on",
    "median_window": "none, for that of a median over windows is not known",
    "lower_bound": "of the mean over windows, from 4 windows on",
}


def baseline_label(name: str, bought_anew: bool) -> str:
    """Return the stored name of a baseline, qualified for tables, pictures and notes."""
    return f"{name} ({REBOUGHT})" if bought_anew else name
