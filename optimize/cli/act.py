"""`walkforge act`."""

import dataclasses
import math
from datetime import datetime, timedelta
from typing import Any

from optimize.bundles.act import Decision, Order
from optimize.bundles.reasons import span_words
from optimize.cli.evaluate import data_here, opened_bundle, states_symbols
from optimize.clock import now
from optimize.data.features import reads_volume
from optimize.data.quality.report import enforce_report, inspect_bars
from optimize.data.timeframes import SECOND_NS
from optimize.errors import BadInputError
from optimize.report.format import number, signed
from optimize.report.tables import Column, say, say_aside, short, show, show_json
from optimize.schemas.studies import ActConfig

ORDER_COLUMNS = (
    Column("symbol", "symbol", right=False),
    Column("holding", "holding", signed(3)),
    Column("action", "policy", signed(3)),
    Column("target", "target", signed(3)),
    Column("side", "order", right=False),
    Column("size", "size", number(3)),
    Column("price", "price", "{:.8g}".format),
)
UNITS_COLUMN = Column("units", "units", short)  # shown where the equity is given


def act(config: ActConfig) -> None:
    """Print the next order of a bundle, at the close of the newest bar that has ended."""
    bundle = opened_bundle(config)
    spec = dataclasses.replace(bundle.spec, data=data_here(bundle.spec.data, config.data))
    tell = say if config.format == "table" else say_aside
    enforce_report(
        inspect_bars(spec.data, spec.session), tell, reads_volume=reads_volume(spec.feature.indicators)
    )
    decision = dataclasses.replace(bundle, spec=spec).act(
        holding=config.holding, since=config.since, other_assets=states_symbols(config.data)
    )
    if spec.data.max_age is None:  # else the checks of the bars have refused those of a greater age
        _refuse_late(decision)
    rows = [_row(order, config.equity) for order in decision.orders]
    if config.format == "json":
        show_json(dataclasses.asdict(decision) | {"orders": rows})
    else:
        _print(decision, rows, config.equity)


def _refuse_late(decision: Decision) -> None:
    """Refuse an order after the end of the bar in which it fills."""
    if now() < datetime.fromisoformat(decision.expires_at):
        return
    age = now() - datetime.fromisoformat(decision.known_at)
    ago, days = span_words(round(age.total_seconds() * SECOND_NS)), math.ceil(age / timedelta(days=1))
    raise BadInputError(
        f"the newest bar ended at {decision.known_at}, {ago} ago, and the bar in which its order fills "
        f"({decision.next_bar}) has ended as well: give newer bars, or data.max_age={days} (days) to take "
        "bars of this age"
    )


def _row(order: Order, equity: float | None) -> dict[str, Any]:
    """Return an order as plain values, with its units where the equity of the account is known."""
    return dataclasses.asdict(order) | ({} if equity is None else {"units": order.units(equity)})


def _print(decision: Decision, rows: list[dict[str, Any]], equity: float | None) -> None:
    """Print a decision as a table, and the reasons behind it."""
    say(f"order at the close of the bar {decision.bar}, known at {decision.known_at}")
    show(rows, ORDER_COLUMNS if equity is None else (*ORDER_COLUMNS, UNITS_COLUMN), "table")
    for order in decision.orders:
        say(f"{order.symbol}: {order.reason}")
    early = decision.next_bar < decision.fills_at
    stamped = f", in the bar stamped {decision.next_bar}" if early else ""
    say(f"fills at {decision.fills_at}{stamped}; session {decision.session}")
    if decision.followed_from is not None:
        say(f"holding: the policy followed from {decision.followed_from} on, flat at first")
    for note in decision.notes:
        say(note)
    if equity is None:
        units = "equity=AMOUNT adds the units of an order"
    else:
        units = f"units: about, size x {equity:,.15g} of equity / price"
    say("exposures are shares of equity, negative for short; size: target minus holding; times are UTC")
    say(f"price: the newest close; {units}")
