"""Features that an agent observes: causal and, by default, independent of the price level of the asset.

A feature at bar t reads bars <= t only, and the last `warmup` bars alone reproduce it within 1e-6. To add
one, write a function with @feature in the module of its kind and add its row to the tests.
"""

from optimize.data.features import clock, prices, volumes, zigzag  # noqa: F401  (imports register the features)
from optimize.data.features.compute import check_features, compute_features, refuse_leaks, warmup_bars
from optimize.data.features.groups import check_groups, column_groups, columns_in_groups
from optimize.data.features.registry import (
    FEATURES,
    AssetBars,
    Feature,
    FeatureDescription,
    columns_of,
    feature,
    kind_of,
    list_features,
    reads_volume,
)

__all__ = [
    "FEATURES",
    "AssetBars",
    "Feature",
    "FeatureDescription",
    "check_features",
    "check_groups",
    "column_groups",
    "columns_in_groups",
    "columns_of",
    "compute_features",
    "feature",
    "kind_of",
    "list_features",
    "reads_volume",
    "refuse_leaks",
    "warmup_bars",
]
