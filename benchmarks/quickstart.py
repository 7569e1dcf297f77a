"""Trials per minute of the quickstart, a whole process in a fresh folder; ends with one JSON line."""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time

TRIALS = 20  # 8 of the timeframe phase, 12 of the model phase


def main() -> None:
    """Run the quickstart a few times and print the median."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one run instead of three")
    runs = 1 if parser.parse_args().quick else 3
    seconds = []
    for number in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            command = [sys.executable, "-m", "optimize", "study", "experiment=quickstart"]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - started)
        print(f"run {number + 1} of {runs}: {seconds[-1]:.1f} s", flush=True)
    rate = 60 * TRIALS / statistics.median(seconds)
    machine = {"machine": platform.machine(), "python": platform.python_version()}
    print(json.dumps({"trials_per_minute": round(rate, 1), "seconds": seconds, **machine}))


if __name__ == "__main__":
    main()
