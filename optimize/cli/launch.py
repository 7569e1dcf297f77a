"""The words of a launch as they may be stored: without passwords, and without what holds tokens."""

import re
from collections.abc import Sequence

PASSWORD = re.compile(r"(\w[\w+.-]*://[^\s/:@]*):\S+@")  # of a database URL
OPTION = re.compile(r"([?&])(?:ssl)?password=[^&\s'\"]*&?")  # of one too
NOTIFY = re.compile(r"^[+~]*notify\b")


def storable(overrides: Sequence[str]) -> list[str]:
    """Return the overrides of a launch that anybody who reads the database may see."""
    kept = [word for word in overrides if not NOTIFY.match(word)]
    return [OPTION.sub(r"\1", PASSWORD.sub(r"\1@", word)) for word in kept]
