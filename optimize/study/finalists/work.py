"""The worker process of finalists: take one run after another that no other worker has."""

import sys
import time
from collections.abc import Callable

from optimize.agents.devices import free_memory
from optimize.database import open_engine
from optimize.errors import BadInputError
from optimize.results.states import COUNTED
from optimize.study.context import cache_dir
from optimize.study.failures.shortages import in_full, passes, write_log
from optimize.study.finalists.plan import Entrant, FinalistPlan
from optimize.study.finalists.retrain import Place, retrain
from optimize.study.finalists.stress import stress_run
from optimize.study.spec import StudySpec
from optimize.study.trials.execute import StopRequestedError
from optimize.study.workers.process import EXIT_DONE, EXIT_SHORT, WorkerSlot, exit_code, worker_process
from optimize.walkforward.markets import WindowedMarket, shared_market

MarketOf = Callable[[Entrant], WindowedMarket]


def work_on_finalists(plan: FinalistPlan, spec: StudySpec, slot: WorkerSlot) -> None:
    """Run the plan in a worker process until every run has ended or is another worker's."""
    with worker_process(spec, slot) as (stopping, asked_to_leave):
        database = spec.database
        engine = open_engine(database.url, busy_timeout_s=database.busy_timeout_s)
        rest = (lambda: None) if slot.device is None else free_memory
        try:
            code = run_plan(Place(spec.folder, engine), plan, entrant_markets(spec), stopping, slot, rest)
        except Exception as error:
            if not passes(error):
                raise
            write_log(in_full(error))
            code = EXIT_SHORT
        finally:
            engine.dispose()
        sys.exit(exit_code(code, slot, asked_to_leave))


def run_plan(
    place: Place,
    plan: FinalistPlan,
    market_of: MarketOf,
    stopping: Callable[[], bool],
    slot: WorkerSlot | None = None,
    rest: Callable[[], None] = lambda: None,
) -> int:
    """Retrain and stress-test every run that is free; return the exit code of the worker."""
    for entrant, seed in plan.runs():
        if stopping():
            break
        if slot is not None:
            slot.begun.value += 1
            slot.since.value = time.monotonic()
        try:
            run = retrain(place, plan, entrant, seed, market_of, stopping)
            if run is not None and run.state in COUNTED:
                stress_run(place, plan, entrant, run, market_of)
        except StopRequestedError:
            break
        finally:
            if slot is not None:
                slot.since.value = 0.0
            rest()
    return EXIT_DONE


def entrant_markets(spec: StudySpec) -> MarketOf:
    """Return a function that builds the market of an entrant once a process and checks its data."""
    markets: dict[str, WindowedMarket] = {}

    def market_of(entrant: Entrant) -> WindowedMarket:
        windowed = shared_market(entrant.spec, markets, cache_dir(spec))
        found, known = windowed.market.fingerprint, entrant.data_fingerprint
        if found != known:
            raise BadInputError(
                f"the data of trial {entrant.trial_number} are not those that it was trained on (fingerprint "
                f"{known[:12]}, found {found[:12]}): restore them, or give data.path=FILE if they moved"
            )
        return windowed

    return market_of
