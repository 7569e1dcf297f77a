"""What an agent sees: causal numbers of one asset's bars, free of the unit of its price and volume.

A feature at bar t reads bars <= t only, and a tail of its warm-up reproduces it within 1e-6. To add one:
a function under @feature in the module of its kind, and its row in the tests.
"""

from optimize.data.features import clock, prices, volumes, zigzag  # noqa: F401  (they register themselves)
from optimize.data.features.causal import refuse_leaks
from optimize.data.features.compute import check_features, compute, warmup_bars
from optimize.data.features.registry import (
    FEATURES,
    AssetBars,
    Feature,
    columns_of,
    feature,
    kind_of,
    reads_volume,
)

__all__ = [
    "FEATURES",
    "AssetBars",
    "Feature",
    "check_features",
    "columns_of",
    "compute",
    "feature",
    "kind_of",
    "reads_volume",
    "refuse_leaks",
    "warmup_bars",
]
