"""Manifests and bundles that were forged, damaged or blown up: one line each, and no unbounded reading."""

import dataclasses
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from optimize.agents.artifacts import MODEL, WEIGHTS
from optimize.bundles import consistency
from optimize.bundles.load import load_bundle
from optimize.bundles.manifest import MANIFEST_FILE, read_manifest, verify_bundle, write_manifest
from optimize.bundles.replay import replay_bundle
from optimize.errors import BadInputError
from optimize.hashing import hash_file, hash_object

ENTRY = {"bytes": 1, "sha256": "0" * 64}
WRONG: list[tuple[str, Any]] = [
    ("format", 4), ("format", 1), ("format", 2), ("trained_until", 5), ("trained_until", "2020-01-01"),
    ("eligible_from", None),
    ("format", "1"), ("format", None), ("format", True),
    ("study", 1), ("study", None), ("study", ["a"]),
    ("trial", "1"), ("trial", -1), ("trial", 1.5), ("trial", 10**30), ("trial", True), ("trial", None),
    ("members", None), ("members", "trial 1"), ("members", [1]), ("members", ["trial 1", "trial 2"]),
    ("run_uuid", {}),
    ("score", "9"), ("score", None), ("score", True), ("score", 1),
    ("standard_error", "0.1"),
    ("returns_sha256", 5), ("data_fingerprint", None), ("deployable", []),
    ("versions", []), ("versions", {"a": 1}), ("trained_with", None),
    ("trained_with", {"threads": None}), ("commit", 7),
    ("files", []), ("files", None), ("files", {"a": 1}), ("files", {"a": {}}),
    ("files", {"a": {"bytes": 1}}),
    ("files", {"../a": ENTRY}), ("files", {"/etc/passwd": ENTRY}), ("files", {"a/../b": ENTRY}),
    ("files", {"": ENTRY}),
    ("files", {"a": ENTRY | {"bytes": -1}}), ("files", {"a": ENTRY | {"sha256": "x"}}),
    ("extra", 1),
]  # fmt: skip
RAW = [b"", b"null", b"[]", b"5", b"{", b'{"format": NaN}', b"\xff\xfe", b"[" * 100_000, b'{"a": ' * 50_000]


def forge(bundle: Path, **changes: Any) -> None:
    """Rewrite the manifest with other values and a digest that fits them."""
    plain = json.loads((bundle / MANIFEST_FILE).read_bytes())
    del plain["manifest_sha256"]
    plain |= changes
    content = plain | {"manifest_sha256": hash_object(plain)}
    (bundle / MANIFEST_FILE).write_text(
        f"{json.dumps(content, indent=2, sort_keys=True)}\n", encoding="utf-8"
    )


def rewrite_manifest(bundle: Path) -> None:
    """List the files as they are now, as somebody does who changed one of them."""
    write_manifest(bundle, read_manifest(bundle))


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_manifest_of_wrong_types_is_one_line(bundle: Path, name: str, value: Any) -> None:
    forge(bundle, **{name: value})
    with pytest.raises(BadInputError, match=MANIFEST_FILE) as refused:
        replay_bundle(bundle)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("raw", RAW, ids=lambda raw: repr(raw[:12]))
def test_a_manifest_that_is_no_manifest_is_one_line(bundle: Path, raw: bytes) -> None:
    (bundle / MANIFEST_FILE).write_bytes(raw)
    with pytest.raises(BadInputError, match=MANIFEST_FILE) as refused:
        verify_bundle(bundle)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name", ["config.json", "features.json", "metrics.json", "spans.json", "closes.json"]
)
@pytest.mark.parametrize(
    "raw", [b"[]", b"{}", b"[" * 100_000, b'{"data": 5}'], ids=lambda raw: repr(raw[:12])
)
def test_other_json_under_a_rebuilt_manifest_is_one_line(bundle: Path, name: str, raw: bytes) -> None:
    (bundle / name).write_bytes(raw)
    rewrite_manifest(bundle)
    with pytest.raises(BadInputError) as refused:
        replay_bundle(bundle)
    assert "\n" not in str(refused.value)
    assert name in str(refused.value) or raw == b"{}"


@pytest.mark.parametrize("threads", ["0", "many", "99999999999999999999"])
def test_threads_of_a_forged_manifest_are_refused(bundle: Path, threads: str) -> None:
    manifest = read_manifest(bundle)
    write_manifest(
        bundle, dataclasses.replace(manifest, trained_with=manifest.trained_with | {"threads": threads})
    )
    with pytest.raises(BadInputError, match="threads"):
        replay_bundle(bundle)


@pytest.mark.parametrize("name", ["policy.safetensors", "spec.json", "scaler.npz"])
def test_a_deployable_file_other_than_the_proven_one_is_refused(bundle: Path, name: str) -> None:
    other = bundle / "windows" / "0" / "repeat_1" / name
    if (bundle / name).read_bytes() == other.read_bytes():
        other.write_bytes(other.read_bytes() + b" ")
    (bundle / name).write_bytes(other.read_bytes())
    rewrite_manifest(bundle)
    with pytest.raises(BadInputError, match=rf"{name}.*unproven"):
        replay_bundle(bundle)
    with pytest.raises(BadInputError, match=rf"{name}.*unproven"):
        load_bundle(bundle)


def test_an_archive_with_other_weights_is_refused(bundle: Path) -> None:
    weights = {name: tensor + 1.0 for name, tensor in safetensors.torch.load_file(bundle / WEIGHTS).items()}
    with zipfile.ZipFile(bundle / MODEL) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    torch.save(weights, bundle / "aside")
    entries["policy.pth"] = (bundle / "aside").read_bytes()
    (bundle / "aside").unlink()
    with zipfile.ZipFile(bundle / MODEL, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    rewrite_manifest(bundle)
    with pytest.raises(BadInputError, match=r"model\.zip holds other weights"):
        replay_bundle(bundle)


def test_an_archive_that_runs_code_when_unpickled_is_refused_unread(bundle: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Payload:
        def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
            return os.mkdir, (str(canary),)

    torch.save(Payload(), bundle / "aside")
    with zipfile.ZipFile(bundle / MODEL, "w") as archive:
        archive.writestr("policy.pth", (bundle / "aside").read_bytes())
    (bundle / "aside").unlink()
    rewrite_manifest(bundle)
    with pytest.raises(BadInputError, match=r"model\.zip holds no policy weights"):
        replay_bundle(bundle)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("metrics.json", '"cost": ', '"cost": 1'),
        ("metrics.json", '"tries": ', '"tries": 1'),
        ("CARD.md", "**Score ", "**Score +9.9, once "),
        ("features.json", '"lookback": 2', '"lookback": 3'),
        ("closes.json", '"dates": [', '"dates": ["2021-12-31", '),
        ("spans.json", '"eligible_from": "2022', '"eligible_from": "2021'),
    ],
)
def test_a_forged_description_is_refused(bundle: Path, name: str, old: str, new: str) -> None:
    text = (bundle / name).read_text(encoding="utf-8")
    assert old in text
    (bundle / name).write_text(text.replace(old, new, 1), encoding="utf-8")
    rewrite_manifest(bundle)
    with pytest.raises(
        BadInputError, match=r"(metrics|CARD|features|spans|closes)\.(json|md) does not describe"
    ):
        replay_bundle(bundle)


def test_a_card_in_the_words_of_another_version_is_no_forgery(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optimize.bundles.luck.LUCK_LEGEND", "In other words than those of the export.")
    with pytest.raises(BadInputError, match=r"CARD\.md does not describe"):
        replay_bundle(bundle)  # by the code that wrote the card
    monkeypatch.setattr(consistency, "card_code", lambda: {"card": "of a later version"})
    replayed = replay_bundle(bundle)
    assert replayed.bitwise
    assert any("CARD.md was written by other code and was not compared" in line for line in replayed.unproven)


def test_links_and_devices_are_refused(bundle: Path) -> None:
    (bundle / "link").symlink_to("/etc/passwd")
    with pytest.raises(BadInputError, match="link is not an ordinary file"):
        verify_bundle(bundle)
    (bundle / "link").unlink()
    (bundle / "more").symlink_to(bundle / "windows")
    with pytest.raises(BadInputError, match="more is not an ordinary file"):
        verify_bundle(bundle)
    (bundle / "more").unlink()
    os.mkfifo(bundle / "pipe")
    with pytest.raises(BadInputError, match="pipe is not an ordinary file"):
        verify_bundle(bundle)


@pytest.mark.parametrize("what", ["optimize.bundles.manifest.hash_file", "pathlib.Path.read_text"])
def test_a_bundle_that_this_user_may_not_read_is_not_called_damaged(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def shut(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(what, shut)
    with pytest.raises(BadInputError, match=r"cannot be read \(Permission denied\): ask its owner"):
        verify_bundle(bundle)


def test_a_linked_manifest_is_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / MANIFEST_FILE).rename(tmp_path / MANIFEST_FILE)
    (bundle / MANIFEST_FILE).symlink_to(tmp_path / MANIFEST_FILE)
    with pytest.raises(BadInputError, match=MANIFEST_FILE):
        verify_bundle(bundle)


def test_a_scaler_that_unpacks_to_gigabytes_is_refused_unread(bundle: Path) -> None:
    with zipfile.ZipFile(bundle / "scaler.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for part in range(5):
            archive.writestr(f"{part}.npy", bytes(64 << 20))
    assert (bundle / "scaler.npz").stat().st_size < 1 << 20
    rewrite_manifest(bundle)
    with pytest.raises(BadInputError, match=r"scaler\.npz unpacks to 320 MB"):
        verify_bundle(bundle)


def test_a_file_of_another_size_is_refused_before_it_is_read(bundle: Path) -> None:
    with (bundle / "equity.png").open("r+b") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(BadInputError, match=r"equity\.png has more than 2 GB"):
        verify_bundle(bundle)


def test_an_honest_bundle_passes_all_of_it(bundle: Path) -> None:
    files = verify_bundle(bundle).files
    assert files["scaler.npz"]["sha256"] == hash_file(bundle / "scaler.npz")
    assert np.isfinite(load_bundle(bundle).representation.scaler.mean).all()
