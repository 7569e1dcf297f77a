"""The doctor's look at the keys of data providers: one cheap request for each that is configured."""

from collections.abc import Iterator

from optimize.data.sources.clients.access import KEYS, find_keys, masked_line
from optimize.data.sources.providers import PROVIDERS
from optimize.data.spec import DataSpec
from optimize.doctor.findings import FAIL, OK, WARN, Finding
from optimize.errors import BadInputError, DownloadError

ASKED = {"alpaca": "SPY", "coinbase": "BTC-USD"}  # a symbol that the provider serves to every key


def examine_credentials() -> Iterator[Finding]:
    """Yield whether the keys of each configured provider are accepted; nothing of one without keys."""
    for provider in KEYS:
        finding = _examine(provider)
        if finding is not None:
            yield finding


def _examine(provider: str) -> Finding | None:
    """Ask a provider for one symbol with the keys that are set."""
    download = PROVIDERS[provider].download
    if download is None:
        return None
    try:
        if find_keys(provider) is None:
            return None
        spec = DataSpec(provider=provider, symbols=[ASKED[provider]])
        download.connect(spec, lambda text: None).check(spec.symbols)
    except BadInputError as error:
        return Finding(
            "credentials", FAIL, masked_line(error), "set the keys that the provider's account shows"
        )
    except DownloadError as error:
        return Finding("credentials", WARN, masked_line(error), f"ask again when {provider} can be reached")
    return Finding("credentials", OK, f"{provider} accepts its keys")
