"""Whether a Ray cluster can run a study at all."""

import socket
from collections.abc import Mapping, Sequence
from typing import Any

from optimize.database import is_sqlite
from optimize.errors import BadInputError
from optimize.study.spec import StudySpec


def check_nodes(spec: StudySpec, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a cluster that cannot run the study: SQLite on several hosts, or no node with enough room."""
    hosts = {str(node["NodeManagerHostname"]) for node in nodes} | {socket.gethostname()}
    if is_sqlite(spec.database.url) and len(hosts) > 1:
        raise BadInputError(
            f"worker=ray: the cluster has {len(hosts)} hosts ({', '.join(sorted(hosts)[:5])}), and a SQLite "
            "file serves one: use database=postgresql"
        )
    worker = spec.worker
    wanted = {"CPU": worker.cpus_per_worker, "GPU": worker.gpus_per_worker}
    if not any(all(node["Resources"].get(key, 0) >= wanted[key] for key in wanted) for node in nodes):
        most = ", ".join(
            f"{max((node['Resources'].get(key, 0) for node in nodes), default=0):g} {key}" for key in wanted
        )
        raise BadInputError(
            f"worker.cpus_per_worker={wanted['CPU']:g} worker.gpus_per_worker={wanted['GPU']:g}: no node of "
            f"the Ray cluster has that much (at most {most}): lower them"
        )
    if spec.agent.device == "cuda" and not worker.gpus_per_worker:
        raise BadInputError(
            "agent.device=cuda needs worker.gpus_per_worker above 0, such as 0.25, with worker=ray"
        )
    if spec.agent.device == "cpu" and worker.gpus_per_worker:
        raise BadInputError(
            f"worker.gpus_per_worker={worker.gpus_per_worker:g} would hold GPUs that agent.device=cpu never "
            "uses: set agent.device=cuda, or leave it out"
        )
