"""One recorded study for the tests of pages."""

from collections.abc import Iterator

import pytest

from optimize.study.context import StudyContext
from tests.optimize.study.gallery import add_trial, close, make_context

SCORES = (1.23, -0.4, 0.8)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudyContext]:
    """Yield a study with three scored trials and the files of their returns."""
    context = make_context(tmp_path_factory.mktemp("gallery"))
    for score in SCORES:
        add_trial(context, score)
    yield context
    close(context)
