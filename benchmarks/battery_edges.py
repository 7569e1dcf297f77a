"""Sizes of the edges of the battery and the bands of their oracles, as calibrated on 400,000 bars.

`python -m benchmarks.battery_oracle` prints them anew; `hidden` has the process of `last`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Edge:
    """The size of an edge, in standard deviations of a bar, and the band of its oracle."""

    edge: float
    band: float  # change of the exposure from which the oracle trades


NO_EDGE = Edge(0.0, 0.0)
EDGES: dict[str, dict[int, Edge]] = {
    "last": {2: Edge(0.03744, 0.3), 3: Edge(0.04892, 0.25), 4: Edge(0.06013, 0.2)},
    "last_negative": {2: Edge(0.03802, 0.3), 3: Edge(0.04929, 0.25), 4: Edge(0.06059, 0.2)},
    "momentum_5": {2: Edge(0.02779, 0.25), 3: Edge(0.0392, 0.2), 4: Edge(0.05082, 0.15)},
    "momentum_20": {2: Edge(0.02422, 0.2), 3: Edge(0.03549, 0.15), 4: Edge(0.04709, 0.15)},
    "reversion": {2: Edge(0.02422, 0.2), 3: Edge(0.03522, 0.15), 4: Edge(0.04602, 0.1)},
    "season_day": {2: Edge(0.02441, 0.1), 3: Edge(0.03495, 0.1), 4: Edge(0.04567, 0.0)},
    "season_week": {2: Edge(0.02176, 0.0), 3: Edge(0.03263, 0.0), 4: Edge(0.04329, 0.0)},
    "lead_lag": {2: Edge(0.03802, 0.3), 3: Edge(0.04967, 0.25), 4: Edge(0.06105, 0.2)},
    "regime": {2: Edge(0.04231, 0.2), 3: Edge(0.05362, 0.15), 4: Edge(0.06441, 0.15)},
    "volatility": {2: Edge(0.01366, 0.1), 3: Edge(0.02063, 0.05), 4: Edge(0.02758, 0.05)},
    "hidden": {2: Edge(0.03744, 0.3), 3: Edge(0.04892, 0.25), 4: Edge(0.06013, 0.2)},
}
