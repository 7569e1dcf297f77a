"""Read the content of a file, unpacking compressed files and archives."""

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa

from optimize.errors import BadInputError

MAX_BYTES = 4 * 1024**3  # unpacked; larger than any file of bars, small enough for memory
MAX_NESTING = 3  # nested archives or compressions
ZIP = b"PK\x03\x04"
PACKED = (".gz", ".gzip", ".bz2", ".xz", ".zst", ".zip")
MEMBERS = (".csv", ".txt", ".tsv", ".parquet", ".feather", ".json", *PACKED)
OFFICE = ("[Content_Types].xml", "content.xml")  # members of a spreadsheet, which is a zip file


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes of a file and their origin."""

    path: Path  # path of the file on disk
    name: str  # name of the innermost file; its suffix names the format
    data: bytes
    notes: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        """Return the suffix in lower case."""
        return Path(self.name).suffix.lower()


def _zstd(stream: BytesIO) -> IO[bytes]:
    unpacked: IO[bytes] = pa.CompressedInputStream(stream, "zstd")
    return unpacked


def _gzip(stream: BytesIO) -> IO[bytes]:
    unpacked: Any = gzip.GzipFile(fileobj=stream)
    return cast(IO[bytes], unpacked)


def _xz(stream: BytesIO) -> IO[bytes]:
    return lzma.LZMAFile(stream)


OPENERS: dict[bytes, Callable[[BytesIO], IO[bytes]]] = {
    b"\x1f\x8b": _gzip,
    b"BZh": lambda stream: bz2.BZ2File(stream),
    b"\xfd7zXZ\x00": _xz,
    b"\x28\xb5\x2f\xfd": _zstd,
}


def read_content(path: Path, data: bytes | None = None) -> Content:
    """Return the unpacked content of a file; `data` is its content if already read."""
    try:
        content = Content(path, path.name, path.read_bytes() if data is None else data)
    except OSError as error:
        raise BadInputError(f"{path} cannot be opened ({error.strerror}): give another data.path") from None
    for _ in range(MAX_NESTING):
        opener = next((each for magic, each in OPENERS.items() if content.data.startswith(magic)), None)
        if opener is not None:
            content = _decompress(content, opener)
        elif content.data.startswith(ZIP):
            content = _unzip(content)
        else:
            return content
    raise BadInputError(
        f"{path} is packed more than {MAX_NESTING} times over: unpack it, and set data.path to that"
    )


def _decompress(content: Content, opener: Callable[[BytesIO], IO[bytes]]) -> Content:
    """Decompress the content; its name loses the compression suffix."""
    try:
        with opener(BytesIO(content.data)) as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise BadInputError(
            f"{content.path} cannot be unpacked, for it is cut or damaged: download it again"
        ) from error
    name = content.name.rsplit(".", 1)[0] if content.suffix in PACKED else content.name
    return _bounded(replace(content, name=name, data=data))


def _unzip(content: Content) -> Content:
    """Return the only file of bars in a zip file."""
    try:
        with zipfile.ZipFile(BytesIO(content.data)) as archive:
            member = _member(content, archive)
            if member.flag_bits & 1:
                raise BadInputError(
                    f"{content.path} is encrypted: unpack it, and set data.path to the file in it"
                )
            if member.file_size > MAX_BYTES:
                raise _too_large(content.path)
            with archive.open(member) as stream:
                data = stream.read(MAX_BYTES + 1)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, zlib.error, lzma.LZMAError) as error:
        raise BadInputError(
            f"{content.path} cannot be unpacked, for it is cut or damaged: download it again"
        ) from error
    return _bounded(replace(content, name=Path(member.filename).name, data=data))


def _member(content: Content, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """Return the only member that can hold bars; a text file next to a single CSV file is ignored."""
    listed = [each for each in archive.infolist() if not each.is_dir()]
    if any(each.filename in OFFICE for each in listed):
        raise BadInputError(
            f"{content.path} is a spreadsheet: save its sheet as CSV, and set data.path to that"
        )
    hidden = ("__MACOSX/", ".")
    plain = [each for each in listed if not each.filename.startswith(hidden)]
    wanted = [each for each in plain if Path(each.filename).suffix.lower() in MEMBERS]
    tables = [each for each in wanted if Path(each.filename).suffix.lower() != ".txt"]
    chosen = tables if len(tables) == 1 else wanted
    if len(chosen) != 1:
        names = ", ".join(each.filename for each in (chosen or plain)[:5]) or "nothing"
        more = ", ..." if len(chosen or plain) > 5 else ""
        raise BadInputError(
            f"{content.path} holds {names}{more}, and one file of bars is read from a zip: unpack it, and "
            "set "
            "data.path to one file, or to a folder or glob of the parts of one symbol"
        )
    return chosen[0]


def _bounded(content: Content) -> Content:
    """Return the content; refuse more than MAX_BYTES."""
    if len(content.data) > MAX_BYTES:
        raise _too_large(content.path)
    return content


def _too_large(path: Path) -> BadInputError:
    limit = MAX_BYTES // 1024**3
    return BadInputError(f"{path} is more than {limit} GiB once unpacked: unpack it and split it into parts")
