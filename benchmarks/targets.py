"""The targets beside what was measured, as RESULTS.md shows them."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from benchmarks.markdown import table, times
from benchmarks.training import FULL

WORK = {
    "b64": "PPO 64x64, batch 64, 1 env",
    "b64_8": "PPO 64x64, batch 64, 8 envs",
    "b1024_64": "PPO 64x64, batch 1024, 64 envs",
    "h64": "SAC 64x64, batch 256, 1 update a step",
    "h256": "SAC 256x256, batch 256, 1 update a step",
}

PLAYERS = {
    "d33": "PPO 64x64, D 33",
    "d153": "PPO 64x64, D 153",
    "d903": "PPO 64x64, D 903",
    "dqn_small_d33": "DQN 64x64, D 33",
    "sac_large_d33": "SAC 256x256, D 33",
}


LUCK = {
    "size": "2.5 to 7.5 %",
    "power": "72 to 88 %",
    "selection": "zero within its error",
    "nested": "zero within its error",
    "training": "zero within its error",
}


class Row(NamedTuple):
    """One target: what was measured, what was wanted, and whether that is met."""

    work: str
    measured: str
    target: str
    share: str  # of the matrix products' limit
    met: bool | None  # None: not measured


def target_table(records: dict[str, dict[str, Any]]) -> str:
    """Return every target beside what was measured."""
    cells = []
    for name, rows_of in TARGETS.items():
        if name not in records:
            cells.append([f"`{name}.py`", "not measured yet", "", "", ""])
            continue
        record = records[name]
        form = f"{name}, quick" if record["quick"] else name
        for row in rows_of(record["result"]):
            verdict = "" if row.met is None else f"{'met' if row.met else '**missed**'} ({form})"
            cells.append([row.work, row.measured, row.target, row.share, verdict])
    return table(("work", "measured", "target", "share of the GEMM limit", ""), cells)


def training_targets(result: dict[str, Any]) -> Iterator[Row]:
    """Yield the targets of training, those of the long form that the short one leaves out as well."""
    for case in FULL:
        if case.target is None:
            continue
        size, shape = case.key.split("_", 2)[1:]
        work, target = f"{WORK[shape]}, D {size[1:]}", f">= {case.target:g} x"
        if (found := result["detail"].get(case.key)) is None:
            yield Row(work, "not measured", target, "", None)
            continue
        ratio, share = found["ratio"], f"{found['share_of_products']:.0%}"
        yield Row(work, f"{times(ratio)} x", target, share, ratio >= case.target)


def evaluation_targets(result: dict[str, Any]) -> Iterator[Row]:
    """Yield the targets of evaluation, for each of the agents."""
    for way, target in result["targets"].items():
        for agent, found in result["detail"].items():
            ratio = found[way]
            work = f"evaluation of 8 x 2,000 bars, {way}, {PLAYERS[agent]}"
            yield Row(work, f"{times(ratio)} x", f">= {target:g} x", "", ratio >= target)


def environments_targets(result: dict[str, Any]) -> Iterator[Row]:
    """Yield the target of the vector environment, for each market."""
    for market, found in result["markets"].items():
        ratio, target = found["vector_over"]["walkforge dummy"], result["target"]
        work = f"vector environment, 64 rows, full costs, {market.replace('_', ' ')}"
        yield Row(work, f"{times(ratio)} x DummyVecEnv", f">= {target:g} x", "", ratio >= target)


def trials_targets(result: dict[str, Any]) -> Iterator[Row]:
    """Yield the targets of whole trials."""
    for size, target in result["targets"].items():
        if (ratio := result.get(f"trial_{size}")) is not None:
            work = f"whole trial, 20k PPO steps and 4 evaluations, D {size[1:]}"
            yield Row(work, f"{times(ratio)} x", f">= {target:g} x", "", ratio >= target)


def scaling_targets(result: dict[str, Any]) -> Iterator[Row]:
    """Yield the target of two workers."""
    if (ratio := result["times_the_first"].get("2")) is not None:
        target, work = result["target"], f"1 -> 2 workers on {result['cores']} cores"
        yield Row(work, f"{times(ratio)} x", f">= {target:g} x", "", ratio >= target)


def memory_targets(result: dict[str, Any]) -> Iterator[Row]:
    """Yield the target of the replay."""
    found = result["replay"]
    work = "replay memory, 1M transitions, D 903"
    measured = f"{found['index_mb']:g} MB (stock {found['stock_mb']:,.0f} MB)"
    yield Row(work, measured, f"< {found['target_mb']:g} MB", "", found["index_mb"] < found["target_mb"])


def engine_targets(result: dict[str, Any]) -> Iterator[Row]:
    """Yield the target of the overhead, for each number of finished trials."""
    for finished, found in result["overhead_ms"].items():
        above, target = found["claim above memory"], result["target_ms"]
        work = f"engine overhead per trial at {int(finished):,} finished trials"
        yield Row(work, f"{above:.1f} ms above in-memory", f"<= {target:g} ms", "", above <= target)


def small_study_targets(result: dict[str, Any]) -> Iterator[Row]:
    """Yield the targets of a small trial: beside another version, and of the linear probe, if measured."""
    if (ratio := result.get("ratio", {}).get("trial")) is not None:
        target = result["target"]
        measured = f"{ratio:.2f} of version 0.1"
        yield Row("CPU time of a small trial", measured, f"<= {target:g}", "", ratio <= target)
    if (probe := result.get("probe")) is not None:
        share, target = probe["share"], probe["target"]
        work = f"linear probes of {probe['inputs']} inputs beside {probe['trials']} small trials"
        yield Row(work, f"{share:.1%} of their CPU time", f"< {target:.0%}", "", share < target)


def verbs_targets(result: dict[str, Any]) -> Iterator[Row]:
    """Yield the target of every reading verb."""
    target = result["target"]
    for verb, ratio in result["over_imports"]["this"].items():
        work = f"CPU time of `{verb}`, start included"
        yield Row(work, f"{ratio:.2f} x its imports", f"<= {target:g} x", "", ratio <= target)


def luck_targets(result: dict[str, Any]) -> Iterator[Row]:
    """Yield the targets of size and power, and of the walk-forwards of a search."""
    for name, case, means in ((n, c, m) for n in LUCK for c, m in result.get(n, {}).items()):
        for key, met in means["reached"].items():
            mean, error = means[key]["mean"], means[key]["error"]
            shares = name in ("size", "power")
            value = f"{mean:.1%} +- {error:.1%}" if shares else f"{mean:+.2f} +- {error:.2f}"
            limits = LUCK[name] if shares or case == "none" else "above zero"
            yield Row(f"luck: {name}, {case}, {key.replace('_', ' ')}", value, limits, "", met)


TARGETS: dict[str, Callable[[dict[str, Any]], Iterator[Row]]] = {
    "training": training_targets,
    "evaluation": evaluation_targets,
    "environments": environments_targets,
    "trials": trials_targets,
    "scaling": scaling_targets,
    "memory": memory_targets,
    "engine": engine_targets,
    "small_study": small_study_targets,
    "verbs": verbs_targets,
    "luck": luck_targets,
}
