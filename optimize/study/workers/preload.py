"""Preload of the forkserver: it imports a worker's modules and digests the code, once for all workers."""

import importlib

from optimize.spawning import uncollected

MODULES = (
    "optimize.study.workers.process",
    "optuna.storages",
    "alembic.command",  # imported when a storage is opened
    "torch._dynamo",  # imported by the first optimizer, which takes a second
)

with uncollected():
    for module in MODULES:
        importlib.import_module(module)
    from optimize.walkforward.versions import source, versions

    versions()
    source(())
