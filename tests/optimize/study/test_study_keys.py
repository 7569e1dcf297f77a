"""Every key of a study is declared: role, meaning, and whether it may be searched or changed."""

import dataclasses
import re
import typing

from envs.fields import is_spec, keys_of, open_field, setting_of
from optimize.agents.hyperparameters import HYPERPARAMETERS
from optimize.agents.registry import ALGORITHMS, hyperparameters_of
from optimize.study.spec import StudySpec

ROLES = {"market", "run", "search", "execution", "secret"}


def _specs(kind: type) -> set[type]:
    hints = typing.get_type_hints(kind)
    inner = [hints[field.name] for field in dataclasses.fields(kind)]
    return {kind}.union(*(_specs(each) for each in inner if is_spec(each)))


def test_every_field_of_every_spec_has_a_role_and_a_meaning() -> None:
    for kind in _specs(StudySpec):
        for field in dataclasses.fields(kind):
            declared = setting_of(field)
            assert declared.role in ROLES, field.name
            assert re.fullmatch(r"[A-Z0-9].*\.|strptime .*\.", declared.meaning), (kind, field.name)


def test_the_hyperparameters_are_those_of_the_signatures() -> None:
    found: dict[str, set[type]] = {}
    for name in ALGORITHMS:
        for key, each in hyperparameters_of(name).items():
            found.setdefault(key, set()).update(each.types)
    kinds = {key: set(typing.get_args(each.kind) or [each.kind]) for key, each in HYPERPARAMETERS.items()}
    assert kinds == found


def test_the_exam_is_never_searchable_and_the_rest_of_market_and_run_is() -> None:
    keys = keys_of(StudySpec)
    exam = re.compile(
        r"(cost|gate|window|score|session)\.|data\.(?!timeframe$)|(seed|env\.(fill|maintenance_margin))$"
        r"|agent\.(device|n_envs)$"
    )
    for path, key in keys.items():
        assert bool(exam.match(path)) == ("tune the exam" in (key.unsearchable or "")), path
    free = [path for path, key in keys.items() if key.unsearchable is None]
    assert {path.partition(".")[0] for path in free} == {"data", "feature", "env", "reward", "agent", "train"}
    assert "data.timeframe" in free
    assert "agent.engine" not in free


def test_only_how_fast_and_how_far_a_study_runs_may_change_between_launches() -> None:
    changeable = {path for path, key in keys_of(StudySpec).items() if key.changeable}
    assert {path for path in changeable if path.split(".")[0] in ("data", "worker", "phase")} == {
        *(f"data.{key}" for key in ("path", "folder", "refresh", "check")),
        *(f"data.{key}" for key in ("max_age", "max_gap_days", "severity")),
        *(path for path in keys_of(StudySpec) if path.startswith(("worker.", "phase.")))
    } - {
        *("worker.mode", "worker.batch_size"),
        *("phase.timeframe.timeframes", "phase.timeframe.lookbacks"),
    }  # fmt: skip
    assert {path for path in changeable if path.split(".")[0] not in ("data", "worker", "phase")} == {
        "n_trials", "max_failures", "max_consecutive_failures", "max_alike_failures", "keep_models",
        "preflight", "extensions", "database.url", "database.busy_timeout_s", "notify.urls", "notify.events",
        "holdout.open", "nested", "nested_finalists", "nested_seeds",
    }  # fmt: skip
    assert open_field(StudySpec) is None
