from typing import Any

import pytest

from optimize.data.calendars.spec import SessionSpec
from optimize.data.features.spec import FeatureSpec
from optimize.data.spec import DataSpec, SyntheticSpec
from optimize.data.timeframes import timeframe_ns
from optimize.errors import BadInputError


def test_timeframes_are_read_as_nanoseconds() -> None:
    assert [timeframe_ns(name) for name in ("1m", "15m", "1h", "1d")] == [
        60 * 10**9,
        900 * 10**9,
        3600 * 10**9,
        86400 * 10**9,
    ]


@pytest.mark.parametrize(
    ("spec", "settings", "words"),
    [
        (
            DataSpec,
            {"timeframe": "1w"},
            "data.timeframe='1w' .* such as 1m, 5m, 15m, 30m, 1h, 2h, 4h, 6h, 12h, 1d",
        ),
        (DataSpec, {"timeframe": "60m"}, "data.timeframe='60m' .* written 1h"),
        (DataSpec, {"timeframe": "7s"}, "data.timeframe='7s' .* whole minutes"),
        (DataSpec, {"skip_rows": -1}, "data.skip_rows=-1 .* from 0"),
        (DataSpec, {"names": ["open", "open"]}, "data.names=.*distinct"),
        (DataSpec, {"separator": ":"}, "data.separator=':'"),
        (DataSpec, {"decimal": ",", "thousands": ","}, "data.thousands=',' .* another mark"),
        (DataSpec, {"stamp": "close"}, "data.stamp='close' .* start, end or null"),
        (DataSpec, {"point_size": 0.0}, "data.point_size=0.0"),
        (DataSpec, {"encoding": "utf-17"}, "data.encoding='utf-17'"),
        (DataSpec, {"source_timeframe": "60"}, "data.source_timeframe='60'"),
        (DataSpec, {"columns": {"price": "Close"}}, "data.columns='price' .* timestamp, open, high"),
        (
            DataSpec,
            {"severity": {"gap": "warn"}},
            "data.severity='gap' .* keyed by rows, order, .*, constant",
        ),
        (
            DataSpec,
            {"severity": {"gaps": "warning"}},
            "data.severity.gaps='warning' .* refuse, warn or ignore",
        ),
        (DataSpec, {"severity": {"nan": "warn"}}, "data.severity.nan='warn' .* cannot be lowered"),
        (DataSpec, {"max_age": 0}, r"data.max_age=0 .* above 0 \(days\)"),
        (DataSpec, {"max_gap_days": -1}, r"data.max_gap_days=-1 .* above 0 \(days\)"),
        (DataSpec, {"symbols": ["A", "A"]}, "data.symbols=.*distinct, non-empty"),
        (DataSpec, {"symbols": [""]}, "data.symbols=.*distinct, non-empty"),
        (DataSpec, {"time_zone": "New York"}, "data.time_zone='New York' .* IANA"),
        (SyntheticSpec, {"kind": "sine"}, "data.synthetic.kind='sine' .* one of random_walk, known_optimum"),
        (SyntheticSpec, {"bars": 1}, "data.synthetic.bars=1"),
        (SyntheticSpec, {"volatility": 0.0}, "data.synthetic.volatility=0.0"),
        (SyntheticSpec, {"period": 3}, "data.synthetic.period=3 .* even"),
        (FeatureSpec, {"lookback": 0}, "feature.lookback=0 .* at least 1"),
        (FeatureSpec, {"indicators": []}, "feature.indicators=.*non-empty"),
        (FeatureSpec, {"indicators": ["rsi", "rsi"]}, "feature.indicators=.*without repeats"),
        (SessionSpec, {"calendar": " "}, "session.calendar=' '"),
    ],
)
def test_bad_settings_name_the_key_and_what_is_allowed(
    spec: Any, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInputError, match=words):
        spec(**settings)
