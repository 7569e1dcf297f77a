"""Sets that a study tries first: they are in the cap, queued once, and taken from an earlier study."""

import threading
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import text

from optimize.data.describe import SourceSummary
from optimize.errors import BadInputError
from optimize.results.event_log import log_event
from optimize.results.events import SourceDescribed
from optimize.results.queries import best_models
from optimize.results.tries import count_tries, tried_span
from optimize.search.space import parse_space
from optimize.search.spec import PhaseSpec, StartSpec
from optimize.search.storage import CAP_STATES
from optimize.study.context import StudyContext
from optimize.study.control import NoTrial
from optimize.study.launch.starting_points import check_starting_points, queue_starting_points
from optimize.study.spec import StudySpec, WorkerSpec
from optimize.study.trials.claim import claim
from optimize.study.workers.process import market_builder
from tests.optimize.study.databases import Small, record
from tests.optimize.study.studies import claimed, opened, play

RATE = "agent.learning_rate"
SETS: list[dict[str, Any]] = [{RATE: 0.001}, {"agent": {"learning_rate": 0.002}}, {RATE: 0.003}]
BTC = SourceSummary(("BTC",), "1h", "1h", "btc.csv", "2022-01-01", "2022-03-01")


def queued(context: StudyContext, source: SourceSummary | None = None) -> list[str]:
    lines: list[str] = []
    queue_starting_points(context, source, lines.append)
    return lines


def rates(context: StudyContext) -> list[Any]:
    return [trial.params.get(RATE) for trial in context.study.get_trials(deepcopy=False)]


def trained(context: StudyContext, *scores: float) -> StudyContext:
    """Finish the trials of a study with these scores, without training."""
    for score in scores:
        record(context, claimed(context), score)
    return context


def test_sets_are_tried_first_count_in_the_cap_and_are_queued_once(small: Small) -> None:
    spec = small(search=StartSpec(enqueue=SETS), n_trials=4)
    context = opened(spec)
    queued(context)
    queued(opened(spec))  # as a second launch does
    trained(context, 0.1, 0.2, 0.3, 0.4)
    assert rates(context)[:3] == [0.001, 0.002, 0.003]
    assert len(rates(context)) == 4
    assert claim(context, 0, market_builder(context)) is NoTrial.FULL
    queued(opened(spec))
    assert len(rates(context)) == 4


def test_a_launch_killed_between_two_sets_queues_the_rest_alone(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small(search=StartSpec(enqueue=SETS))
    context = opened(spec)
    real = optuna.Study.enqueue_trial

    def once(study: optuna.Study, *arguments: Any, **options: Any) -> None:
        monkeypatch.setattr(optuna.Study, "enqueue_trial", killed)
        real(study, *arguments, **options)

    def killed(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(optuna.Study, "enqueue_trial", once)
    with pytest.raises(KeyboardInterrupt):
        queued(context)
    monkeypatch.setattr(optuna.Study, "enqueue_trial", real)
    queued(opened(spec))
    trained(context, 0.1, 0.2, 0.3)
    assert rates(context) == [0.001, 0.002, 0.003]


def test_the_cap_holds_with_sets_and_many_workers_at_once(small: Small) -> None:
    spec = small(search=StartSpec(enqueue=SETS), n_trials=5)
    queued(opened(spec))
    over: list[int] = []

    def be_a_worker(context: StudyContext, number: int) -> None:
        lay = market_builder(context)
        while not isinstance(found := claim(context, number, lay), NoTrial):
            states = [trial.state for trial in context.study.get_trials(deepcopy=False)]
            over.extend([1] * (sum(state in CAP_STATES for state in states) > 5))
            record(context, found, float(number))

    contexts = [opened(spec) for _ in range(4)]
    workers = [threading.Thread(target=be_a_worker, args=(each, n)) for n, each in enumerate(contexts)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    trials = contexts[0].study.get_trials(deepcopy=False)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 5
    assert not over
    assert {0.001, 0.002, 0.003} < set(rates(contexts[0]))


def test_a_batch_takes_as_many_sets_as_it_holds(small: Small) -> None:
    batch = WorkerSpec(mode="batch", batch_size=2)
    context = opened(small(search=StartSpec(enqueue=SETS), n_trials=4, worker=batch))
    queued(context)
    first, second = claimed(context), claimed(context)
    assert claim(context, 0, market_builder(context)) is NoTrial.WAIT
    record(context, first, 0.1)
    record(context, second, 0.2)
    trained(context, 0.3, 0.4)
    assert rates(context)[:3] == [0.001, 0.002, 0.003]


def test_the_best_sets_of_an_earlier_study_are_tried_first_in_a_wider_space(small: Small) -> None:
    before = trained(opened(small(name="before")), 0.5, 2.0, 1.0, -1.0)
    wide = {"agent": {"learning_rate": {"low": 1e-5, "high": 1e-1, "log": True}, "gamma": [0.9, 0.99]}}
    spec = small(name="after", space=wide, search=StartSpec(start_from="before", top_n=2))
    after = opened(spec)
    lines = queued(after)
    assert lines == ["after: the 2 best parameter sets of before are tried first"]
    trained(after, 0.1, 0.2, 0.3)
    assert rates(after)[:2] == [rates(before)[1], rates(before)[2]]
    gammas = [trial.params["agent.gamma"] for trial in after.study.get_trials(deepcopy=False)[:2]]
    assert gammas == [0.99, 0.99]  # the value that the earlier study had, and no drawn one


def test_sets_that_do_not_fit_are_named_and_left_out(small: Small) -> None:
    before = trained(opened(small(name="before")), 0.5, 2.0)
    low, high = sorted(rates(before))
    middle = (low * high) ** 0.5
    space = {"agent": {"learning_rate": {"low": middle, "high": 1e-2, "log": True}}}
    after = opened(small(name="after", space=space, search=StartSpec(start_from="before")))
    lines = queued(after)
    assert f"is left out: {RATE}={low!r} is not a number from" in lines[0]
    trained(after, 0.1)
    assert rates(after) == [high]


def test_a_study_of_another_instrument_or_without_a_score_is_refused(small: Small) -> None:
    before = opened(small(name="before"))
    spec = small(name="after", search=StartSpec(start_from="before"))
    with pytest.raises(BadInputError, match="'before' has no trial with a score"):
        queued(opened(spec))
    trained(before, 0.5)
    with before.engine.begin() as conn:
        log_event(conn, "before", "", SourceDescribed(symbols=("EURUSD",)))
    with pytest.raises(BadInputError, match="is a study of EURUSD, and this one is of BTC"):
        queued(opened(spec), BTC)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": StartSpec(enqueue=[{RATE: 5.0}])}, r"search.enqueue\[0\]: agent.learning_rate=5.0"),
        ({"search": StartSpec(enqueue=SETS), "n_trials": 2}, "n_trials=2 .*at least the 3 sets"),
        ({"search": StartSpec(start_from="small")}, "the name of another study"),
        ({"search": StartSpec(enqueue=SETS), "phase": PhaseSpec("timeframe_only")}, "takes no other sets"),
    ],
)
def test_wrong_sets_are_refused_before_anything_is_built(
    small: Small, changes: dict[str, Any], message: str
) -> None:
    spec: StudySpec = small(**changes)
    with pytest.raises(BadInputError, match=message):
        check_starting_points(spec, parse_space(spec.space))


def test_given_sets_are_labelled_and_the_tries_of_the_earlier_study_count(small: Small) -> None:
    play(opened(small(name="before", n_trials=2)))
    search = StartSpec(enqueue=[{RATE: 0.001}], start_from="before", top_n=1)
    after = opened(small(name="after", search=search, n_trials=4))
    queued(after)
    after.study.enqueue_trial({RATE: 0.005})
    play(after)
    sources = {row.trial_number: row.source for row in best_models(after.engine, "after")}
    assert sources == {0: "enqueue", 1: "start_from", 2: "by_hand", 3: "sampler"}
    with after.engine.connect() as conn:
        span = tried_span(conn, "after")
        assert span is not None
        assert count_tries(conn, *span).same_instrument == 2 + 4
        told = conn.execute(text("SELECT trial_number, source FROM best_models WHERE study_name = 'after'"))
        assert {row.trial_number: row.source for row in told} == sources
