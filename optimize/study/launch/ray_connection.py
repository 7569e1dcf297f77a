"""Connect to the Ray cluster of a study; refuse a cluster that cannot run it."""

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from optimize.database import is_sqlite
from optimize.errors import BadInputError, install_hint
from optimize.study.spec import StudySpec

ANSWER_S = 5.0  # time-out of a connection to the head of a cluster
AUTO_ADDRESS, LOCAL = "auto", "local"


def load_ray() -> Any:
    """Import Ray; raise BadInputError with the command that installs it."""
    try:
        import ray
    except ImportError:
        raise BadInputError(f"worker=ray needs Ray, which is not installed: {install_hint('ray')}") from None
    return ray


@contextmanager
def ray_connection(spec: StudySpec, echo: Callable[[str], None] = lambda line: None) -> Iterator[Any]:
    """Yield Ray, connected to the cluster of the study; refuse a cluster that cannot run it.

    A nested call reuses the open connection of the launch.
    """
    ray = load_ray()
    ours = not ray.is_initialized()
    if ours:
        address = spec.worker.address
        echo(
            "starting a Ray cluster on this machine"
            if address == LOCAL
            else f"connecting to the Ray cluster (worker.address={address})"
        )
        try:
            _check_listening(_tried_address(address))
            ray.init(address=address, configure_logging=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise _no_answer(spec, str(error).strip().partition("\n")[0]) from None
    try:
        check_nodes(spec, [node for node in ray.nodes() if node["Alive"]])
        yield ray
    finally:
        if ours:
            ray.shutdown()


def check_nodes(spec: StudySpec, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a cluster that cannot run the study: SQLite on several hosts, or no node of sufficient size."""
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


def _tried_address(address: str) -> str:
    """Return the HOST:PORT that Ray would try: RAY_ADDRESS, or that of the last `ray start` here."""
    named = os.environ.get("RAY_ADDRESS") or address if address == AUTO_ADDRESS else address
    if named != AUTO_ADDRESS:
        return named
    from ray._private.services import canonicalize_bootstrap_address  # as ray.init itself does

    return str(canonicalize_bootstrap_address(address))


def _check_listening(address: str) -> None:
    """Raise OSError where no server listens at HOST:PORT: Ray itself would retry for minutes."""
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()


def _no_answer(spec: StudySpec, words: str) -> BadInputError:
    """Return the error for a cluster that does not answer; its remedy depends on the database."""
    address = spec.worker.address
    remedy = "start one with `ray start --head`, name another, or write worker.address=local"
    if not is_sqlite(spec.database.url):
        return BadInputError(
            f"worker.address={address}: no Ray cluster answers ({words}): {remedy} for a new one on this "
            "machine"
        )
    return BadInputError(
        "worker=ray needs database=postgresql, as a SQLite file serves one machine alone; and "
        f"worker.address={address}: no Ray cluster answers ({words}): {remedy} for a new one on this "
        "machine, for which SQLite will do"
    )
