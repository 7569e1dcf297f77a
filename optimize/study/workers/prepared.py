"""Imported by the server that forks workers, so that none of them reads all modules to digest the code."""

from optimize.study.versions import source, versions

versions()
source(())
