"""Processes load their modules without garbage collection, and collect from then on."""

import gc
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from optimize.spawning import enter_pool, keep_loaded, main_left_out, uncollected


def collector() -> tuple[bool, bool]:
    return gc.isenabled(), gc.get_freeze_count() > 0


def entered() -> tuple[tuple[bool, bool], tuple[bool, bool]]:
    before = collector()
    keep_loaded()
    return before, collector()


def test_nothing_is_collected_while_modules_load_and_they_are_left_out_later() -> None:
    with uncollected():
        loaded = [gc.isenabled()]
    assert loaded == [False]
    assert collector() == (True, True)
    assert not any(each is loaded for each in gc.get_objects())


def test_the_worker_of_a_pool_collects_when_it_is_loaded() -> None:
    context = multiprocessing.get_context("spawn")
    with main_left_out(), ProcessPoolExecutor(1, mp_context=context, initializer=enter_pool) as pool:
        assert pool.submit(entered).result() == ((False, False), (True, True))


def test_the_workers_of_a_study_collect_beside_what_their_forkserver_loaded() -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["optimize.study.workers.preload"])
    with main_left_out(), ProcessPoolExecutor(1, mp_context=context) as pool:
        assert pool.submit(collector).result() == (True, True)
