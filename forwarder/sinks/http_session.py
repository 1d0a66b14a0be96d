"""The library's HTTP session, with certificate authorities that are read once for all of them."""

import threading
from typing import Any

from aiobotocore.httpsession import AIOHTTPSession

_CONTEXTS: dict[object, Any] = {}
_BUILDING = threading.Lock()


class SharingSession(AIOHTTPSession):  # type: ignore[misc]  # the library ships no types
    """Shares its TLS contexts with every session that verifies alike.

    Each would read 140 authorities: 15 to 30 ms of CPU and 0.7 MiB. A bundle that changes is read
    by the next process.
    """

    def _build_ssl_contexts(self, proxy_url: str | None) -> Any:  # noqa: ANN401  # as above
        alike = (
            self._verify,
            self._cert_file,
            self._key_file,
            proxy_url,
            repr(self._proxy_config.settings),
        )
        # The library calls this in a thread.
        with _BUILDING:
            if alike not in _CONTEXTS:
                _CONTEXTS[alike] = super()._build_ssl_contexts(proxy_url)
            return _CONTEXTS[alike]
