"""Small studies for the tests of this folder."""

from tests.optimize.study.conftest import closed
from tests.optimize.study.databases import small

__all__ = ["closed", "small"]
