"""Fixtures of the conformance suites."""

from tests.optimize.study.databases import small

__all__ = ["small"]
