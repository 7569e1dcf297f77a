"""Order of the test files: the dearest first, so that no worker of pytest-xdist ends on a long file alone."""

from pathlib import Path

import pytest

# The first compiles the kernels of every algorithm; those after it compile none, so that the second worker of
# pytest-xdist does not compile the same kernels at the same time.
DEAREST = (
    "conformance/test_conformance_algorithms.py",
    "optimize/study/nested/test_nested_run.py",
    "optimize/study/nested/test_nested_noise.py",
    "conf/test_conf_compose.py",
    "optimize/data/quality/test_quality_hours.py",
    "optimize/cli/test_cli_bad_input.py",
    "conformance/test_conformance_sampler.py",
    "conformance/test_conformance_database_study.py",
    "optimize/study/launch/test_launch_cluster.py",
    "test_main_job.py",
    "optimize/test_library.py",
    "optimize/study/test_study_chaos.py",
    "optimize/study/workers/test_workers_processes.py",
    "optimize/study/trials/test_trials_batch_processes.py",
    "test_benchmark_luck.py",
    "test_benchmark_null_studies.py",
    "versions/test_version_0_1.py",
    "optimize/bundles/test_bundles_manifest.py",
    "optimize/agents/test_agents_train.py",
    "optimize/cli/test_cli_extensions.py",
    "conformance/test_conformance_database_fencing.py",
)


def order_dearest_first(items: list[pytest.Item], tests: Path) -> None:
    """Move the tests of the dearest files of a folder to the front."""
    rank = {tests / file: place for place, file in enumerate(DEAREST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))
