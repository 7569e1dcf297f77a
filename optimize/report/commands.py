"""Parts of a command line that reach a study again."""

import shlex
from pathlib import Path


def folder_words(output_dir: str | Path) -> str:
    """Return ` output_dir=FOLDER` for a command, or no text where it is the default folder."""
    return "" if str(output_dir) == "studies" else f" output_dir={shlex.quote(str(output_dir))}"
