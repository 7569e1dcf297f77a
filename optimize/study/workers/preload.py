"""Preload of the forkserver: it imports this module and digests the code once for all workers."""

from optimize.walkforward.versions import source, versions

versions()
source(())
