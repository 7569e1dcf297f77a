"""`walkforge act`."""

import dataclasses

from optimize.bundles.act import Decision
from optimize.cli.evaluate import data_here, opened_bundle
from optimize.data.features import reads_volume
from optimize.data.quality.report import enforce_report, inspect_bars
from optimize.report.format import signed
from optimize.report.tables import Column, say, say_aside, show, show_json
from optimize.schemas.studies import ActConfig

ORDER_COLUMNS = (
    Column("symbol", "symbol", right=False),
    Column("holding", "holding", signed(3)),
    Column("action", "policy", signed(3)),
    Column("target", "target", signed(3)),
    Column("order", "order", right=False),
)


def act(config: ActConfig) -> None:
    """Print the next order of a bundle, at the close of the newest bar that has ended."""
    bundle = opened_bundle(config)
    spec = dataclasses.replace(bundle.spec, data=data_here(bundle.spec.data, config.data))
    tell = say if config.format == "table" else say_aside
    enforce_report(
        inspect_bars(spec.data, spec.session), tell, reads_volume=reads_volume(spec.feature.indicators)
    )
    decision = dataclasses.replace(bundle, spec=spec).act(holding=config.holding, since=config.since)
    if config.format == "json":
        show_json(dataclasses.asdict(decision))
    else:
        _print(decision)


def _print(decision: Decision) -> None:
    """Print a decision as a table, and the reasons behind it."""
    rows = [
        {**dataclasses.asdict(order), "order": "trade" if order.trades else "none"}
        for order in decision.orders
    ]
    say(f"order at the close of the bar {decision.bar}, known at {decision.known_at}")
    show(rows, ORDER_COLUMNS, "table")
    for order in decision.orders:
        say(f"{order.symbol}: {order.reason}")
    early = decision.next_bar < decision.fills_at
    stamped = f", in the bar stamped {decision.next_bar}" if early else ""
    say(f"fills at {decision.fills_at}{stamped}; session {decision.session}")
    if decision.followed_from is not None:
        say(f"holding: the policy followed from {decision.followed_from} on, flat at first")
    for note in decision.notes:
        say(note)
    say("exposures are shares of equity, negative for short; times are UTC")
