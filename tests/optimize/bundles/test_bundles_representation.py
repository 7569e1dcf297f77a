"""A bundle carries the groups, chosen columns and forecast of its windows, and acts and replays by them."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from envs.spec import EnvSpec
from envs.types import Market
from optimize.bundles.evaluate import EVERY_WINDOW, plan_evaluation, run_evaluation
from optimize.bundles.export import Exported, export_best
from optimize.bundles.export_ensemble import export_ensemble
from optimize.bundles.load import Bundle, load_bundle
from optimize.bundles.manifest import read_json
from optimize.bundles.replay import load_window_model, replay_bundle
from optimize.bundles.write import write_bundle
from optimize.data.features.spec import FeatureSpec
from optimize.data.frames import bars_of_frames
from optimize.data.market import build_market, market_of
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError
from optimize.evaluate.rollout import Evaluation, rollout
from optimize.results.runs import run_of_trial
from optimize.study.context import StudyContext
from optimize.walkforward.files import RETURNS, read_returns, run_folder, window_folder
from optimize.walkforward.markets import build_windowed_market
from tests.optimize.study.bundles import run_all, tiny_spec, write_prices
from tests.tiers import mostly_slow

SEEN = FeatureSpec(
    lookback=2,
    indicators=["returns", "range", "stochastic", "time_of_day"],
    groups=["price", "oscillator"],
    select=2,
    forecast="ridge",
)
NAMES = {"continuous": ["aa"], "discrete": ["aa"], "several": ["aa", "bb"]}


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """An exported bundle of a study that searched nothing but its learning rate, and its raw bars."""

    context: StudyContext
    exported: list[Exported]
    bundle: Bundle
    frames: dict[str, pd.DataFrame]
    market: Market

    def until(self, row: int) -> dict[str, pd.DataFrame]:
        """Return the raw bars up to a market row."""
        last = pd.Timestamp(int(self.market.timestamp[row]), tz="UTC")
        return {name: frame.loc[:last] for name, frame in self.frames.items()}


@pytest.fixture(scope="module", params=mostly_slow(list(NAMES), "several"))
def shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    folder, symbols = tmp_path_factory.mktemp("shown"), NAMES[request.param]
    frames = {
        name: pd.read_parquet(write_prices(folder / f"{name}.parquet", seed=seed)).set_index("timestamp")
        for seed, name in enumerate(symbols)
    }
    data = DataSpec(provider="file", path=str(folder / "{symbol}.parquet"), symbols=symbols)
    action = "discrete" if request.param == "discrete" else "continuous"
    env = EnvSpec(action=action, rebalance_band=0.0)
    spec = tiny_spec(folder, folder, data=data, feature=SEEN, env=env, n_trials=2)
    context = run_all(spec)
    exported = export_best(context.engine, spec.output_dir, "tiny", 2)
    return Shown(
        context,
        exported,
        load_bundle(exported[0].folder),
        frames,
        build_market(spec.data, spec.feature, spec.session),
    )


def test_it_replays_bit_for_bit_and_says_what_it_sees(shown: Shown) -> None:
    folder = shown.exported[0].folder
    assert replay_bundle(folder).bitwise
    columns = shown.bundle.representation.columns
    assert columns[-1] == "forecast_ridge"
    offered = read_json(folder / "features.json")
    of_groups = ["returns", "range", "body", "stochastic_k", "stochastic_d"]
    assert offered["features"] == [*of_groups, "forecast_ridge"]
    assert offered["select"] == 2
    assert len(columns) == 3
    assert set(columns) < set(offered["features"])
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    assert "each window shows 2, chosen on its train span" in card
    assert "training saw it out of fold" in card.replace("\n", " ")


def test_each_window_has_a_fit_of_its_own(shown: Shown) -> None:
    spec, folder = shown.bundle.spec, shown.exported[0].folder
    windowed = build_windowed_market(spec, None)
    forecasts = [
        load_window_model(spec, windowed, window_folder(folder, window.index, 0)).representation.forecast
        for window in windowed.windows
    ]
    for window, forecast in zip(windowed.windows, forecasts, strict=True):
        assert forecast is not None
        ends = int(windowed.market.timestamp[window.train_last])
        assert forecast.until[-1] == ends + 1
        assert len(forecast.fits) == 6


def test_acting_on_raw_bars_is_the_backtest_to_the_last_bit(shown: Shown) -> None:
    bundle, market, spec = shown.bundle, shown.market, shown.bundle.spec
    since = str(bundle.spans.train_ends[-1])
    first = int(np.searchsorted(market.session, np.searchsorted(market.session_date, np.datetime64(since))))
    whole = bundle.observed(market)
    stepped: Evaluation = rollout(
        dataclasses.replace(bundle.agent, fused=False), whole, [(first, first + 60)],
        env=spec.env, cost=spec.cost, reward=spec.reward, lookback=spec.feature.lookback,
    )[0]  # fmt: skip
    for place in (0, 1, 7, 40):
        row = first - 1 + place
        decision = bundle.act(shown.until(row), since=since)
        asked = np.atleast_1d(np.asarray(stepped.action[place], dtype=np.float64))
        asked = asked - 1.0 if spec.env.action == "discrete" else asked
        assert [order.action for order in decision.orders] == (asked * spec.env.max_leverage).tolist()
    cut = build_market_until(shown, first + 3)
    part = bundle.observed(cut)
    assert part.features[-4:].tobytes() == whole.features[first : first + 4].tobytes()


def build_market_until(shown: Shown, row: int) -> Market:
    """Return the market of the raw bars up to a row, from its second half on alone."""
    frames = {name: frame.iloc[200:] for name, frame in shown.until(row).items()}
    spec = shown.bundle.spec
    source = bars_of_frames(frames, spec.data)
    return market_of(source, spec.data.target, spec.feature, spec.session)


def test_an_evaluation_of_its_windows_gives_the_stored_returns(shown: Shown) -> None:
    bundle = shown.bundle
    plan = plan_evaluation(bundle, bundle.spec, EVERY_WINDOW)
    _, result, _ = run_evaluation(bundle, plan, EVERY_WINDOW)
    for repeat, row in enumerate(result.measured):
        for window, measured in zip(plan.windows, row, strict=True):
            stored = read_returns(window_folder(bundle.folder, window.index, repeat) / RETURNS)[1]
            assert measured.returns.tobytes() == stored.returns.tobytes()


def test_a_refit_fits_its_columns_and_forecast_up_to_the_holdout(shown: Shown, tmp_path: Path) -> None:
    context, best = shown.context, shown.exported[0]
    with context.engine.connect() as conn:
        run = run_of_trial(conn, "tiny", best.rows[0].trial_number)
    assert run is not None
    source = run_folder(context.spec.folder, run.trial_number, run.run_uuid)
    write_bundle(tmp_path / "refit", run, best.score, source, {}, refitted=True)
    assert replay_bundle(tmp_path / "refit").bitwise
    refitted = load_bundle(tmp_path / "refit")
    before, after = shown.bundle.representation.forecast, refitted.representation.forecast
    assert before is not None
    assert after is not None
    assert after.until[-1] > before.until[-1]
    assert refitted.act(shown.frames, holding=None).orders


def test_an_ensemble_shares_the_representation_of_its_members(shown: Shown) -> None:
    if shown.bundle.spec.data.symbols == ["aa"]:
        return  # once is enough, and discrete agents have no ensemble
    (joined,) = export_ensemble(shown.context.engine, shown.context.spec.output_dir, "tiny", 2)
    assert replay_bundle(joined.folder).bitwise
    assert load_bundle(joined.folder).representation.columns == shown.bundle.representation.columns


def test_a_bundle_refuses_a_market_of_other_groups(shown: Shown) -> None:
    other = dataclasses.replace(shown.bundle.spec.feature, groups=["price"])
    spec = dataclasses.replace(shown.bundle.spec, feature=other)
    with pytest.raises(BadInputError, match="the scaler was fitted on"):
        plan_evaluation(shown.bundle, spec, EVERY_WINDOW)
