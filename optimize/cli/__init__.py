"""`walkforge VERB key=value`: one verb is one primary yaml in conf/ and one function."""

from optimize.cli.dispatch import main

__all__ = ["main"]
