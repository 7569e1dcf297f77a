"""Agent files: weights without pickle, and the specification that rebuilds the policy."""

import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from optimize.atomic import replacing
from optimize.errors import BadInputError
from optimize.hashing import hash_file

MODEL, WEIGHTS, SPEC = "model.zip", "policy.safetensors", "spec.json"
AGENT_FORMAT = 1
_REMEDY = "export or train the agent again"


def write_files(
    folder: Path, model: bytes | None, weights: dict[str, torch.Tensor], spec: dict[str, Any]
) -> None:
    """Replace each file, the specification with the digests of the others last."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    digests = {WEIGHTS: _write(folder / WEIGHTS, safetensors.torch.save(tensors))}
    if model is not None:
        digests[MODEL] = _write(folder / MODEL, model)
    text = json.dumps({"format": AGENT_FORMAT, **spec, "sha256": digests}, indent=2, allow_nan=False)
    _write(folder / SPEC, f"{text}\n".encode())


def read_spec(folder: Path) -> dict[str, Any]:
    """Return the specification, or raise BadInputError if it is missing or damaged."""
    path = folder / SPEC
    try:
        spec = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInputError(f"{folder} holds no agent: {SPEC} is missing") from None
    except ValueError as error:
        raise BadInputError(f"{path} is damaged ({error}): {_REMEDY}") from None
    if not isinstance(spec, dict) or spec.get("format") != AGENT_FORMAT:
        raise BadInputError(f"{path} is not an agent specification of format {AGENT_FORMAT}: {_REMEDY}")
    return spec


def check_digest(folder: Path, name: str, spec: dict[str, Any]) -> Path:
    """Return the path of a file whose SHA-256 matches the specification, or raise BadInputError."""
    path = folder / name
    if not path.is_file():
        raise BadInputError(f"{path} is missing: {_REMEDY}")
    if hash_file(path) != spec.get("sha256", {}).get(name):
        raise BadInputError(f"{path} is not the file that {SPEC} describes (its SHA-256 differs): {_REMEDY}")
    return path


def load_weights(folder: Path, spec: dict[str, Any], policy: torch.nn.Module) -> None:
    """Load the weights into the policy; every name and shape must match."""
    path = check_digest(folder, WEIGHTS, spec)
    try:
        tensors = safetensors.torch.load(path.read_bytes())
    except SafetensorError as error:
        raise BadInputError(f"{path} is damaged ({error}): {_REMEDY}") from None
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in policy.state_dict().items()}
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise BadInputError(
                f"{path} does not fit {SPEC}: {name} has shape {found.get(name)}, "
                f"the policy needs {wanted.get(name)}: {_REMEDY}"
            )
    policy.load_state_dict(tensors)


def _write(path: Path, content: bytes) -> str:
    """Replace a file by `content` and return its SHA-256."""
    with replacing(path) as partial:
        partial.write_bytes(content)
    return hashlib.sha256(content).hexdigest()
