"""Groups of columns, such as price or trend, of which feature.groups chooses those that an agent sees."""

from collections.abc import Iterable, Sequence

from optimize.data.features.registry import FEATURES, columns_of
from optimize.data.features.spec import GROUPS, FeatureSpec
from optimize.errors import BadInputError


def column_groups(spec: FeatureSpec) -> dict[str, str]:
    """Return the group of each column of a market, in order, by the name of the column."""
    own = {
        column: FEATURES[name].group
        for name in spec.indicators
        for column in columns_of(name, spec.zigzag_pct)
    }
    repeated = [name for name in spec.indicators if not FEATURES[name].clock]
    higher = {
        f"{column}_{timeframe}": FEATURES[name].group
        for timeframe in spec.higher_timeframes
        for name in repeated
        for column in columns_of(name, spec.zigzag_pct)
    }
    return own | higher


def check_groups(spec: FeatureSpec) -> None:
    """Refuse a group of which no feature is chosen; unknown features are refused elsewhere."""
    if not spec.groups or any(name not in FEATURES for name in spec.indicators):
        return
    _refuse_empty(spec, {FEATURES[name].group for name in spec.indicators})


def columns_in_groups(spec: FeatureSpec, names: Sequence[str]) -> tuple[str, ...]:
    """Return those of a market's columns that are in the groups of feature.groups, in order; all without."""
    if not spec.groups:
        return tuple(names)
    of = column_groups(spec)
    _refuse_empty(spec, of.values())
    return tuple(name for name in names if of.get(name) in spec.groups)


def _refuse_empty(spec: FeatureSpec, found: Iterable[str]) -> None:
    known = set(found)
    empty = [group for group in spec.groups if group not in known]
    if empty:
        has = ", ".join(group for group in GROUPS if group in known)
        members = [name for name, each in sorted(FEATURES.items()) if each.group == empty[0]]
        add = f"add one of {', '.join(members)} to feature.indicators or " if members else ""
        raise BadInputError(
            f"feature.groups={list(spec.groups)}: no column is in the group {empty[0]}, for "
            f"feature.indicators have columns of {has} only: {add}take the group out"
        )
