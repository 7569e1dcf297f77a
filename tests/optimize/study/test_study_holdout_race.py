"""Two studies that start at once plan their holdouts one after the other."""

import json
from datetime import date
from multiprocessing.synchronize import Barrier
from pathlib import Path

from optimize.database import open_engine
from optimize.results.holdout import (
    openings_of,
)
from optimize.study.holdout import admit, with_kept_holdout
from optimize.study.spec import StudySpec
from optimize.walkforward.markets import build_windowed_market
from tests.optimize.study.forks import FORK
from tests.optimize.study.vaults import ALL, NAMES, OWN, Vault, vault

__all__ = ["vault"]


def cut_at_once(spec: StudySpec, both_planned: Barrier) -> None:
    """Plan a study, wait until the other one has planned as well, then enter it; repeat where it must."""
    engine = open_engine(spec.database.url)
    admitted: list[bool] = []
    while True not in admitted:
        before = build_windowed_market(spec, None)
        held = with_kept_holdout(spec, before)
        windowed = build_windowed_market(held, None)
        if not admitted:
            both_planned.wait()
        admitted.append(admit(spec, before, held, windowed, engine, lambda: None, print, keep=True))
    engine.dispose()
    Path(f"{spec.name}.json").write_text(json.dumps(admitted), encoding="utf-8")


def test_two_studies_that_start_at_once_cut_one_holdout(vault: Vault) -> None:
    both_planned = FORK.Barrier(2)
    specs = [vault.spec("one"), vault.spec("two", holdout_share=0.3)]
    vault.engine.dispose()
    processes = [FORK.Process(target=cut_at_once, args=(spec, both_planned)) for spec in specs]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    outcomes = [json.loads(Path(f"{spec.name}.json").read_text(encoding="utf-8")) for spec in specs]
    assert sorted(outcomes) == [[False, True], [True]]
    (kept,) = vault.kept()
    assert kept[0] == (OWN[0] if outcomes[0] == [True] else date(2022, 2, 4))
    assert kept[1:] == (OWN[1], False)
    with vault.engine.connect() as conn:
        assert openings_of(conn, NAMES, *ALL) == []
