"""Commands to fuzz `walkforge` with: keys, values, flags, files, databases and YAML, from one seed."""

import random
import sqlite3
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from optimize.cli.schema_keys import booleans, keys_of_verb
from optimize.cli.verbs import VERBS
from optimize.cli.yaml_files import conf_folder

CANARY = "canary.txt"
NEEDED = {
    "study": ["name=x"],
    "walk-forward": ["name=x", "dry_run=true"],
    "worker": ["name=x", "wait_s=0"],
    "evaluate": ["bundle=nothing"],
    "act": ["bundle=nothing", "data.path=nothing.csv"],
    "replay": ["bundle=nothing"],
    "dashboard": ["name=x"],
}
READING = ("status", "leaderboard", "query", "export", "replay", "dashboard", "doctor", "worker")
ANSWERING = ("doctor", "dashboard")  # doctor reports on a broken database; no page is served here
VALUES = (
    *("null", "", "abc", "[1,2]", "{a:1}", "nan", "inf", "-inf", "-1", "0", "1e400", "3.5", "true", "1,2"),
    *(
        "99999999999999999999",
        "'quoted'",
        "a=b",
        "[",
        "{",
        "]",
        "'",
        '"',
        "${nope}",
        "${oc.env:SECRET_TOKEN}",
    ),
    *("../../etc", "/dev/zero", "/dev/stdin", "ü", "日本", "a b", "%s%n", "$(touch canary.txt)", "x" * 5000),
    *("[" * 200 + "]" * 200, "[null]", "[[]]", "1_000", "0x10", "1e-400", "NaN", "~", "--", "\\", "\n", "\t"),
)
NEVER = {  # values that no key of a kind may have
    bool: ("2", "abc", "nan", "[true]", "3.5", "maybe"),
    "number": ("nan", "abc", "[1]", "{a:1}", "-inf"),
}
FLAGS = (
    *("--experimental-rerun=x.pickle", "--config-path=x", "-cp", "--config-name=x", "-cn", "--hydra-help"),
    *("--info", "-i", "--n_trials=3", "-x", "--", "-", "-cd", "--cfg", "-c", "--cfg=all", "-p", "--packagee"),
    *("hydra.run.dir=x", "hydra.output_subdir=x", "hydra/launcher=basic", "~hydra", "+hydra.verbose=true"),
    *(
        "++hydra.callbacks.x._target_=shutil.copyfile",
        "hydra.searchpath=[pkg://canary]",
        "hydra.searchpath=x",
    ),
    *("+hydra.callbacks.x={_target_:builtins.open,file:canary.txt,mode:w}", "hydra.mode=BOTH"),
    *("hydra.job_logging.handlers.x.filename=canary.txt", "hydra.sweeper._target_=os.system"),
)


@dataclass(frozen=True)
class Case:
    """A command, the kind of input it tries, and whether it must be refused."""

    kind: str
    words: list[str]
    refused: bool = False  # it must end with exit code 2 (or 1)


def commands(folder: Path, seed: int, count: int) -> list[Case]:
    """Return `count` cases in equal parts of each kind; files and databases lie in the folder."""
    draw = random.Random(seed)
    kinds = [
        list(_values(draw)),
        list(_wrong_types(draw)),
        list(_typos(draw)),
        list(_flags(draw)),
        list(_files(folder)),
        list(_databases(folder)),
        list(_yaml(folder)),
        list(_groups(draw)),
    ]
    chosen: list[Case] = []
    for cases in kinds:
        draw.shuffle(cases)
    while len(chosen) < count and any(kinds):
        for cases in kinds:
            if cases and len(chosen) < count:
                chosen.append(cases.pop())
    return chosen


def _values(draw: random.Random) -> Iterator[Case]:
    for verb in VERBS:
        for key in keys_of_verb(verb):
            for value in draw.sample(VALUES, 4):
                prefix = draw.choice(("", "", "", "+", "++", "~"))
                yield Case("value", [verb, *NEEDED.get(verb, []), f"{prefix}{key}={value}"])


def _wrong_types(draw: random.Random) -> Iterator[Case]:
    for verb in VERBS:
        for key in booleans(verb):
            for value in NEVER[bool]:
                yield Case("wrong type", [verb, *NEEDED.get(verb, []), f"{key}={value}"], refused=True)
    for key in ("n_trials", "seed", "keep_models", "worker.count", "window.count", "agent.learning_rate"):
        for value in NEVER["number"]:
            yield Case("wrong type", ["study", "name=x", f"{key}={value}"], refused=True)
    for key in (
        "cost.commission_bps",
        "score.risk_free",
        "worker.lease_s",
        "window.train_ratio",
        "agent.gamma",
    ):
        for value in ("nan", "inf", "-inf"):
            yield Case("wrong type", ["study", "name=x", f"{key}={value}"], refused=True)


def _typos(draw: random.Random) -> Iterator[Case]:
    for verb in VERBS:
        known = set(keys_of_verb(verb))
        for key in sorted(known):
            place = draw.randrange(len(key))
            wrong = key[:place] + draw.choice(string.ascii_lowercase) + key[place + draw.randrange(2) :]
            if wrong not in known and not any(each.startswith(f"{wrong}.") for each in known):
                closed = not wrong.startswith(("agent.", "space.", "data.columns."))
                yield Case("unknown key", [verb, *NEEDED.get(verb, []), f"{wrong}=1"], refused=closed)
        yield Case("unknown verb", [verb[:-1] + draw.choice("xz")], refused=True)


def _flags(draw: random.Random) -> Iterator[Case]:
    for verb in VERBS:
        for flag in FLAGS:
            yield Case("flag or Hydra", [verb, *NEEDED.get(verb, []), flag], refused=flag != "-")


def _groups(draw: random.Random) -> Iterator[Case]:
    groups = sorted(path.name for path in conf_folder().iterdir() if path.is_dir() and path.name[0] != "_")
    for verb in ("study", "walk-forward", "data"):
        for group in groups:
            for value in ("nope", "[a]", "1", "../x", "null", "", "${agent}", "a/b", "NONE"):
                yield Case("group", [verb, *NEEDED.get(verb, []), f"{group}={value}"])


def _files(folder: Path) -> Iterator[Case]:
    made = make_files(folder)
    for name in made:
        yield Case("file", ["data", "data=file", f"data.path={name}"], refused=True)
        yield Case("file", ["study", "name=x", "data=file", f"data.path={name}"], refused=True)
        yield Case("file", ["study", "name=x", f"window.file={name}"], refused=True)
        yield Case("file", ["walk-forward", "name=x", "dry_run=true", f"window.file={name}"], refused=True)
        yield Case("file", ["query", f"sql={name}", "name=x"], refused=True)
        for verb in ("replay", "evaluate", "act"):
            more = ["data.path=bars.csv"] if verb == "act" else []
            yield Case("bundle", [verb, f"bundle={name}", *more], refused=True)
        yield Case("file", ["study", "name=x", f"output_dir={name}/below", "n_trials=0"], refused=True)
    for bundle in make_bundles(folder):
        for verb in ("replay", "evaluate", "act"):
            more = ["data.path=bars.csv"] if verb == "act" else []
            yield Case("bundle", [verb, f"bundle={bundle}", *more], refused=True)


def _databases(folder: Path) -> Iterator[Case]:
    for name in make_databases(folder):
        place = f"database.url=sqlite:///{name}"
        for verb in READING:
            more = {"replay": ["trial=0"], "query": ["sql=best_models"], "worker": ["wait_s=0"]}.get(verb, [])
            yield Case("database", [verb, "name=x", place, *more], refused=verb not in ANSWERING)
        for action in ("pause", "resume", "stop"):
            yield Case("database", ["study", "name=x", f"action={action}", place], refused=True)
    for url in (
        "x",
        "mysql://a/b",
        "postgresql://u:sesame@127.0.0.1:1/x",
        "sqlite://",
        "sqlite:///",
        "http://x",
    ):
        for verb in READING:
            words = [verb, "name=x", f"database.url={url}", *["sql=best_models"] * (verb == "query")]
            yield Case("database", words, refused=verb not in ANSWERING)


def _yaml(folder: Path) -> Iterator[Case]:
    for name in make_yaml(folder):
        for verb in ("study", "walk-forward"):
            words = [verb, *NEEDED[verb], "-cd", str(folder / "own"), f"experiment={name}"]
            yield Case("yaml", words, refused=True)


def make_files(folder: Path) -> list[str]:
    """Write files that are no bars, no windows, no bundle and no query; return their names."""
    contents: dict[str, bytes] = {
        "empty.csv": b"",
        "garbage.csv": bytes(range(256)) * 20,
        "header.csv": b"timestamp,open,high,low,close\n",
        "one.csv": b"timestamp,open,high,low,close\n2020-01-01,1,1,1,1\n",
        "text.csv": b"timestamp,open,high,low,close\n" + b"yesterday,a,b,c,d\n" * 30,
        "huge.csv": b"timestamp,open,high,low,close\n" + b"2020-01-01,1e400,-1,nan,inf\n" * 30,
        "nul.csv": b"timestamp,open,high,low,close\n" + b"2020-01-01\0,1,1,1,1\n" * 30,
        "cut.parquet": b"PAR1 this is none",
        "deep.json": b"[" * 100_000,
        "list.json": b"[1, 2, 3]",
        "object.json": b'{"windows": {"a": null}}',
        "no.txt": b"hello",
        "unknown.xyz": b"hello",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    good = pd.DataFrame({"timestamp": pd.date_range("2020-01-01", periods=50), "close": np.ones(50)})
    good.to_parquet(folder / "columns.parquet")
    whole = (folder / "columns.parquet").read_bytes()
    (folder / "half.parquet").write_bytes(whole[: len(whole) // 2])
    (folder / "loop.csv").unlink(missing_ok=True)
    (folder / "loop.csv").symlink_to("loop.csv")
    if not (folder / "pipe.csv").exists():
        import os

        os.mkfifo(folder / "pipe.csv")
    (folder / "folder.csv").mkdir(exist_ok=True)
    names = [*contents, "columns.parquet", "half.parquet", "loop.csv", "pipe.csv", "folder.csv"]
    return [*names, "missing.csv", "n" * 300 + ".csv", "/dev/zero", "/dev/null"]


def make_bundles(folder: Path) -> list[str]:
    """Write folders that are no bundles; return their names."""
    contents: dict[str, dict[str, str]] = {
        "b_empty": {},
        "b_text": {"manifest.json": "hello"},
        "b_null": {"manifest.json": "null"},
        "b_list": {"manifest.json": "[]"},
        "b_object": {"manifest.json": "{}"},
        "b_number": {"manifest.json": '{"files": 3, "study": 1}'},
        "b_files": {"manifest.json": '{"files": {"../../x": "0"}}', "config.json": "{}"},
        "b_deep": {"manifest.json": '{"a":' * 5000},
        "b_config": {"config.json": "{}"},
    }
    for name, files in contents.items():
        (folder / name).mkdir(exist_ok=True)
        for file, text in files.items():
            (folder / name / file).write_text(text, encoding="utf-8")
    return list(contents)


def make_databases(folder: Path) -> list[str]:
    """Write files that are no databases of ours, or broken ones; return their names."""
    (folder / "text.db").write_text("no database " * 1000, encoding="utf-8")
    (folder / "empty.db").write_bytes(b"")
    (folder / "folder.db").mkdir(exist_ok=True)
    _sqlite(folder / "foreign.db", ["CREATE TABLE trades (a)"])
    _sqlite(folder / "foreign_studies.db", ["CREATE TABLE studies (a)", "CREATE TABLE trials (b)"])
    _sqlite(folder / "foreign_ours.db", ["CREATE TABLE wf_studies (a)", "CREATE TABLE wf_runs (b)"])
    _sqlite(
        folder / "optuna_only.db",
        [
            "CREATE TABLE studies (study_id INTEGER PRIMARY KEY, study_name TEXT)",
            "INSERT INTO studies VALUES (1, 'x')",
        ],
    )
    whole = (folder / "foreign.db").read_bytes()
    (folder / "half.db").write_bytes(whole[: len(whole) // 2])
    damaged = bytearray(whole)
    damaged[100:200] = b"\xff" * 100
    (folder / "damaged.db").write_bytes(bytes(damaged))
    names = (
        "text",
        "empty",
        "folder",
        "foreign",
        "foreign_studies",
        "foreign_ours",
        "optuna_only",
        "half",
        "damaged",
    )
    return [*(f"{name}.db" for name in names), "missing.db"]


def _sqlite(path: Path, statements: list[str]) -> None:
    path.unlink(missing_ok=True)
    conn = sqlite3.connect(path)
    for statement in statements:
        conn.execute(statement)
    conn.commit()
    conn.close()


def make_yaml(folder: Path) -> list[str]:
    """Write experiments that must be refused; return their names."""
    target = f"{{_target_: builtins.open, file: {CANARY}, mode: w}}"
    head = "# @package _global_\n"
    contents: dict[str, Any] = {
        "callback": f"{head}hydra:\n  callbacks:\n    x: {target}\n",
        "package": f"# @package hydra.callbacks\nx: {target}\n",
        "launcher": f"{head}defaults:\n  - override /hydra/launcher: basic\n",
        "target": f"{head}agent: {target}\n",
        "python": f"{head}name: !!python/object/apply:os.system ['touch {CANARY}']\n",
        "tab": f"{head}agent:\n\tnet: tiny\n",
        "twice": f"{head}seed: 1\nseed: 2\n",
        "deep": head + "name: " + "[" * 3000 + "]" * 3000,
        "bomb": head + "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
            f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
        ),
        "unknown": f"{head}n_trialz: 3\n",
        "type": f"{head}n_trials: many\n",
        "list": f"{head}- a\n- b\n",
        "scalar": f"{head}hello\n",
        "secret": f"{head}output_dir: ${{oc.env:SECRET_TOKEN}}\n",
        "circle": f"{head}output_dir: ${{data.folder}}\ndata:\n  folder: ${{output_dir}}\n",
        "group": f"{head}defaults:\n  - override /agent: nope\n",
        "open": f"{head}name: [1, 2\n",
        "latin": f"{head}name: ".encode() + b"\xff\xfe\n",
        "nul": f"{head}name: a\0b\n",
        "bool": f"{head}preflight: 2\n",
    }  # fmt: skip
    place = folder / "own" / "experiment"
    place.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (place / f"{name}.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(contents)
