"""Studies of real hourly bars under the defaults and under those of version 0.1; ends with one JSON line.

Each study goes through search, finalists on fresh seeds and export with the default gates, in a database of
its own. The numbers on luck stand beside the scores, whatever they are: nobody knows what these markets hold.
The bars are read from the folder WALKFORGE_MARKET_DATA. One line a study is kept in
`results/real_markets.jsonl`.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))  # this is a script

from benchmarks.battery_contestants import OF_0_1  # noqa: E402
from benchmarks.null_studies import NAME, kept, own_folder, whole_study  # noqa: E402
from optimize.atomic import append  # noqa: E402

LINES = FOLDER / "results" / "real_markets.jsonl"
MARKETS = {
    "BTC": ("btcusdt_1h_binance_2017_2024.parquet", "crypto"),
    "SPY": ("spy_1h_lean_1998_2021.parquet", "us_equity"),
    "EURUSD": ("eurusd_1h_oanda_mid_2007_2018.parquet", "fx"),
}
SETTINGS: dict[str, tuple[str, ...]] = {"defaults": (), "version 0.1": OF_0_1}
TRIALS, FINALISTS, SEEDS = 60, 5, 4
QUICK_TRIALS, QUICK_FINALISTS = 3, (1, 2)


def run_one(market: str, settings: str, data: Path, quick: bool) -> dict[str, Any]:
    """Run the study of a market under some settings; return its outcome and its CPU seconds."""
    file, cost = MARKETS[market]
    trials = QUICK_TRIALS if quick else TRIALS
    words = [
        f"name={NAME}", f"n_trials={trials}", "worker.count=1", "preflight=false", f"cost={cost}",
        "data=file", f"data.path={data / file}", "data.timeframe=1h", *SETTINGS[settings],
    ]  # fmt: skip
    if quick:
        words += ["window.count=2", "agent.total_timesteps=8192"]
    begun = time.process_time(), os.times().children_user + os.times().children_system
    with own_folder():
        found = whole_study(words, *(QUICK_FINALISTS if quick else (FINALISTS, SEEDS)))
    children = os.times().children_user + os.times().children_system - begun[1]
    cpu = time.process_time() - begun[0] + children
    return {"market": market, "settings": settings, "trials": trials, "cpu_s": round(cpu, 1), **found}


def main() -> None:
    """Run the studies that are missing and show all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three trials on one market, kept nowhere")
    parser.add_argument("--count", action="store_true", help="run nothing: show those that are stored")
    asked = parser.parse_args()
    data = Path(os.environ.get("WALKFORGE_MARKET_DATA", FOLDER.parent.parent / "shared" / "data")).resolve()
    if not asked.count and not data.is_dir():
        parser.error(f"there are no bars at {data}: set WALKFORGE_MARKET_DATA")
    if asked.quick:
        studies = [run_one("SPY", settings, data, quick=True) for settings in SETTINGS]
    else:
        done = {(each["market"], each["settings"]) for each in kept(LINES)}
        missing = [(market, name) for market in MARKETS for name in SETTINGS if (market, name) not in done]
        for market, settings in [] if asked.count else missing:
            row = run_one(market, settings, data, quick=False)
            append(LINES, (json.dumps(row) + "\n").encode())
            print(f"{market}, {settings}: score {row['score']}, {row['cpu_s']} s", flush=True)
        studies = kept(LINES)
    print(json.dumps({"studies": studies}))


if __name__ == "__main__":
    main()
