"""What RESULTS.md shows of each benchmark's result, as Markdown."""

import re
import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.battery_table import battery_table, sweep_table
from benchmarks.discovery_table import discovery
from benchmarks.luck_table import luck
from benchmarks.markdown import table, times
from benchmarks.null_table import null_studies
from benchmarks.probe_noise_table import noise_table
from benchmarks.real_markets_table import real_markets

REQUIREMENTS = Path(__file__).resolve().parent / "peers"
PARTS = ("trial", "launch", "study")  # of the benchmark of small trials
FORMS = {"pandas": "on pandas", "numpy": "on numpy"}


def training(result: dict[str, Any]) -> str:
    """Return speeds and ratios of training."""
    rows = []
    for key, found in result["detail"].items():
        speeds = [
            f"{statistics.median(found['steps_per_s'][engine]):,.0f}" for engine in ("stock", "compiled")
        ]
        target = "" if found["target"] is None else f"{found['target']:g}"
        share = f"{found['share_of_products']:.0%}"
        rows.append([f"`{key}`", *speeds, times(found["ratio"]), target, share])
    return table(("case", "stock steps/s", "compiled steps/s", "ratio", "target", "share"), rows)


def evaluation(result: dict[str, Any]) -> str:
    """Return how many times as fast as `evaluate_policy` each way is."""
    ways = ("single", "lockstep", "fused")
    rows = [
        [f"`{key}`", *(times(found[way]) if way in found else "" for way in ways)]
        for key, found in result["detail"].items()
    ]
    return table(("agent", *ways), rows)


def trials(result: dict[str, Any]) -> str:
    """Return trials per minute."""
    rows = []
    for size, found in result["detail"].items():
        rates = [f"{found['trials_per_minute'][who]:,.1f}" for who in ("stock", "ours")]
        rows.append([f"D {size[1:]}", *rates, times(found["ratio"]), f"{result['targets'][size]:g}"])
    return table(("size", "stock a minute", "ours a minute", "ratio", "target"), rows)


def environments(result: dict[str, Any]) -> str:
    """Return how many times as fast as each form our vector and our single environment are."""
    markets = list(result["markets"])
    forms = dict.fromkeys(form for market in markets for form in result["markets"][market]["vector_over"])
    rows = []
    for form in forms:
        cells = [form_name(form)]
        for market in markets:
            found = result["markets"][market]
            for over in (found["vector_over"], found["single_over"]):
                cells += [times(over[form]) if form in over else ""]
        rows.append(cells)
    heads = [f"{market.replace('_', ' ')}: `{of}`" for market in markets for of in ("vector", "single")]
    missing = {peer: why for each in result["markets"].values() for peer, why in each["absent"].items()}
    return table(("form", *heads), rows) + absent({"absent": missing})


def form_name(form: str) -> str:
    """Return contender, version and form in words."""
    peer, _, rest = form.partition(" ")
    requirements = REQUIREMENTS / f"{peer}.txt"
    if not requirements.is_file():
        return f"{peer} `{rest}`"
    name = peer.replace("_", "-")
    pinned = re.search(rf"^{name}==(\S+)", requirements.read_text(encoding="utf-8"), re.MULTILINE)
    first, _, last = rest.rpartition("_")
    on = f" {FORMS[first]}," if first in FORMS else ""
    return f"{name} {pinned.group(1) if pinned else ''}{on} `{last}`"


def scaling(result: dict[str, Any]) -> str:
    """Return trials per minute by the number of workers."""
    rows = [
        [count, f"{rate:g}", f"{result['times_the_first'][count]:g}"]
        for count, rate in result["trials_per_minute"].items()
    ]
    return table(("workers", "trials a minute", "times the first"), rows)


def engine(result: dict[str, Any]) -> str:
    """Return the overhead in milliseconds, and what became of the crowd."""
    finished = list(result["overhead_ms"])
    names = result["overhead_ms"][finished[0]]
    rows = [[name, *(f"{result['overhead_ms'][count][name]:.1f}" for count in finished)] for name in names]
    heads = [f"ms at {int(count):,} finished trials" for count in finished]
    crowds = [
        [name, found["cap"], found["counted"], found["ms_per_trial"], ", ".join(found["errors"]) or "none"]
        for name, found in result["crowd"].items()
    ]
    crowd = table(("16 workers on one SQLite file", "cap", "counted", "ms a trial", "errors"), crowds)
    return table(("", *heads), rows) + "\n\n" + crowd


def quickstart(result: dict[str, Any]) -> str:
    """Return its rate."""
    seconds = ", ".join(f"{each:.0f}" for each in result["seconds"])
    return f"{result['trials_per_minute']:g} trials a minute, whole process (seconds: {seconds})."


def memory(result: dict[str, Any]) -> str:
    """Return the memory of workers, and what their start takes."""
    heads = (
        "workers",
        "unique MB each",
        "proportional",
        "resident",
        "of the market, resident",
        "unique of it",
    )
    keys = ("unique_mb", "proportional_mb", "resident_mb", "market_mb", "market_unique_mb")
    rows = [[count, *(f"{found[key]:,.0f}" for key in keys)] for count, found in result["workers"].items()]
    start = result["start"]
    ways = [
        [way, f"{start['median_s'][way]:.2g}", f"{start['unique_mb'][way]:,.0f}"] for way in start["median_s"]
    ]
    ready = table(("start", "seconds", "unique MB then"), ways)
    saved = f"The forkserver starts a worker {times(start['times_as_fast'])} times as fast"
    market = f"The market has {result['market_mb']:,.0f} MB."
    replay = result["replay"]
    buffers = (
        f"Replay of 1M transitions, D 903: {replay['index_mb']:g} MB, stock {replay['stock_mb']:,.0f} MB."
    )
    return f"{market} {buffers} {saved}.\n\n{table(heads, rows)}\n\n{ready}"


def phase_one(result: dict[str, Any]) -> str:
    """Return level and power of the statistic of phase 1, case by case."""
    inputs = ("combinations", "trials", "spread", "autocorrelation", "gap", "sessions", "phases")
    rows = []
    for case in result["cases"]:
        level, best = f"{case['all_kept']:.1%}", f"{case['best_kept']:.1%}"
        few = f"{case['best_among_few']:.1%}" if case["gap"] else ""  # without a gap there is no best one
        rows.append([*(f"{case[key]:g}" for key in inputs), level, best, few, case["mean_kept"]])
    named = ("all kept", "best kept", "best kept, 3 at most", "kept on average")
    return table((*inputs, *named), rows)


def two_phase(result: dict[str, Any]) -> str:
    """Return what the set drops and keeps."""
    walks = result["random_walk"]
    said = (
        f"{walks['phases']} whole timeframe phases on random walks, {walks['sessions']} test sessions each: "
        f"the set drops the first combination in **{walks['best_dropped']:.0%}** and keeps all in "
        f"{walks['all_kept']:.0%}."
    )
    rows = []
    for case in result["simulated"]:
        alone = case["sessions_alone"]
        shares = [f"{case[key]:.0%} ({alone[key]:.0%})" for key in ("best_dropped", "all_kept")]
        kept = f"{case['mean_kept']:.2f} ({alone['mean_kept']:.2f})"
        rows.append([case["sessions"], f"{case['spread']:g}", f"{case['edge']:g}", *shares, kept])
    heads = ("sessions", "spread", "edge", "true best dropped", "all kept", "kept on average")
    known = ", ".join("{" + ", ".join(kept) + "}" for kept in result["known_timeframe"])
    return f"{said}\n\n{table(heads, rows)}\n\nKept where 4h is the best timeframe: {known}."


def peers_training(result: dict[str, Any]) -> str:
    """Return steps per second of each contender, and how many times as fast ours is."""
    contenders = list(dict.fromkeys(name for found in result["steps_per_s"].values() for name in found))
    rows = []
    for case, found in result["steps_per_s"].items():
        speeds = [f"{statistics.median(found[name]):,.0f}" if name in found else "" for name in contenders]
        ratios = [
            times(result["ratios"][case][name]) for name in contenders if name in result["ratios"][case]
        ]
        rows.append([f"`{case}`", *speeds, " / ".join(ratios)])
    others = " / ".join(name for name in contenders if name != "compiled")
    heads = ("case", *(f"{name} steps/s" for name in contenders), f"compiled over {others}")
    return table(heads, rows) + absent(result)


def zoo(result: dict[str, Any]) -> str:
    """Return trials per minute of the zoo's optimizer and of ours."""
    rows = [
        [name, ", ".join(f"{each:.1f}" for each in rates), f"{statistics.median(rates):.1f}"]
        for name, rates in result["trials_per_minute"].items()
    ]
    ratios = "; ".join(
        f"walkforge over {name}: **{times(ratio)}**" for name, ratio in result["ratios"].items()
    )
    return table(("", "trials a minute, by round", "median"), rows) + f"\n\n{ratios}" + absent(result)


def absent(result: dict[str, Any]) -> str:
    """Return who did not take part, and why."""
    return "".join(f"\n\nAbsent: {peer}, {why}." for peer, why in result.get("absent", {}).items())


def learning(result: dict[str, Any]) -> str:
    """Return the tests of equivalence."""
    rows = []
    for key, found in result["cases"].items():
        sizes = [f"`{key}`", f"{found['windows']} x {found['steps']:,}", found["seeds"]]
        if found["equivalent"] is None:
            rows.append([*sizes, *[""] * 7, "too few pairs"])
            continue
        both = zip(found["mean"].values(), found["between_seeds"].values(), strict=True)
        means = [f"{mean:+.2f} ± {spread:.2f}" for mean, spread in both]
        interval = f"{found['mean_difference']:+.2f} ({found['low']:+.2f} .. {found['high']:+.2f})"
        tests = [f"{found[key]:.2g}" for key in ("p", "p_difference", "power")]
        verdict = "**equivalent**" if found["equivalent"] else "not shown"
        rows.append([*sizes, *means, interval, f"{found['margin']:.2f}", *tests, verdict])
    heads = ("case", "windows x steps", "pairs", "compiled", "stock", "difference (90 % interval)", "margin")
    last = ("p of equivalence", "p of a difference", "power", "")
    missing = "".join(f"\n\nAbsent: {market}." for market in result.get("absent", ()))
    return table((*heads, *last), rows) + missing


def records(result: dict[str, Any]) -> str:
    """Return the CPU-seconds of every verb at both sizes, and how they grow."""
    few, many = map(str, result["trials"])
    rows = []
    for kind, sizes in result["detail"].items():
        for verb, found in sizes[many].items():
            before, after = sizes[few][verb]["in_process"], found["in_process"]
            whole = f"{found['whole_process']:.2f}" if "whole_process" in found else ""
            rows.append(
                [kind, verb, f"{before:.2f}", f"{after:.2f}", times(after / max(before, 0.01)), whole]
            )
    head = ("database", "read", f"CPU s, {few} trials", f"{many} trials", "growth", f"whole process, {many}")
    return table(head, rows)


def fuzz(result: dict[str, Any]) -> str:
    """Return how the commands of each kind ended, and how many of them ended wrongly."""
    wrong = Counter(each["kind"] for each in result["wrong"])
    rows = []
    for kind, codes in result["kinds"].items():
        ends = (sum(codes.values()), *(codes.get(end, 0) for end in ("0", "1", "2", "None")), wrong[kind])
        rows.append([kind, *(f"{count:,}" for count in ends)])
    heads = ("kind of input", "commands", "exit 0", "exit 1", "exit 2", "did not end", "ended wrongly")
    return table(heads, rows)


def small_study(result: dict[str, Any]) -> str:
    """Return the CPU seconds of a trial, of a launch and of the whole study, by version."""
    versions = [version for version in ("this", "other") if version in result]
    rows = [[version, *(f"{result[version][part]:.2f}" for part in PARTS)] for version in versions]
    if "ratio" in result:
        rows.append(["ratio", *(f"{result['ratio'][part]:.2f}" for part in PARTS)])
    shown = table(("version", *(f"{part}, CPU s" for part in PARTS)), rows)
    return shown + (probe_words(result["probe"]) if "probe" in result else "")


def probe_words(probe: dict[str, Any]) -> str:
    """Return a paragraph on the CPU time of the linear probe beside that of the trials."""
    return (
        f"\n\nOne linear probe takes {1000 * probe['seconds']:.0f} ms. The probes of the {probe['inputs']} "
        f"inputs of the default space take {probe['share']:.1%} of the CPU time of {probe['trials']} such "
        f"trials; with inputs of its own for each trial they would take {probe['share_each']:.0%}."
    )


def verbs(result: dict[str, Any]) -> str:
    """Return the CPU seconds of the imports and of every reading verb, and their ratios, by version."""
    rows = []
    for version, seconds in result["cpu_s"].items():
        ratios = result["over_imports"][version]
        rows.append([version, f"{seconds['imports']:.2f}", *(cell(seconds, ratios, verb) for verb in ratios)])
    names = next(iter(result["over_imports"].values()))
    return table(("version", "imports, CPU s", *(f"`{verb}`, CPU s (ratio)" for verb in names)), rows)


def cell(seconds: dict[str, float], ratios: dict[str, float], verb: str) -> str:
    """Return the CPU seconds of a verb and how many times the imports they are."""
    return f"{seconds[verb]:.2f} ({ratios[verb]:.2f})"


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "environments": environments,
    "training": training,
    "evaluation": evaluation,
    "trials": trials,
    "scaling": scaling,
    "engine": engine,
    "memory": memory,
    "quickstart": quickstart,
    "phase_one": phase_one,
    "two_phase": two_phase,
    "peers_training": peers_training,
    "zoo": zoo,
    "learning": learning,
    "records": records,
    "fuzz": fuzz,
    "small_study": small_study,
    "verbs": verbs,
    "discovery": discovery,
    "null_studies": null_studies,
    "luck": luck,
    "battery": battery_table,
    "battery_sweep": sweep_table,
    "probe_noise": noise_table,
    "real_markets": real_markets,
}
