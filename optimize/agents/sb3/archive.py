"""Weights inside SB3's model.zip, read without running code of the archive."""

import io
import pickle
import zipfile
import zlib
from pathlib import Path

import safetensors.torch
import torch

from optimize.agents.artifacts import MODEL, WEIGHTS
from optimize.errors import BadInputError

ARCHIVE_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    RuntimeError,
    AttributeError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
)
POLICY_FILE = "policy.pth"  # SB3's name of the policy's state inside the archive


def check_archive(folder: Path) -> None:
    """Raise BadInputError if model.zip holds other policy weights than policy.safetensors.

    The pickled parts of the archive (spaces, schedules) are not examined; torch reads the weights alone.
    """
    path = folder / MODEL
    try:
        with zipfile.ZipFile(path) as archive:
            stored = io.BytesIO(archive.read(POLICY_FILE))
        tensors = torch.load(stored, map_location="cpu", weights_only=True)
        same = _equal(tensors, safetensors.torch.load_file(folder / WEIGHTS))
    except ARCHIVE_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInputError(f"{path} holds no policy weights ({reason}): export the bundle again") from None
    if not same:
        raise BadInputError(
            f"{path} holds other weights than {WEIGHTS}, which is the policy that replays: export it again"
        )


def _equal(tensors: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    """Return whether two states have the same names, shapes and numbers."""
    return tensors.keys() == others.keys() and all(
        tensors[name].shape == other.shape and torch.equal(tensors[name], other)
        for name, other in others.items()
    )
