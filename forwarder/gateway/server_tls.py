"""The certificate that a gateway shows, read again when its files change: renewed in place."""

import ssl
from pathlib import Path

import structlog

from forwarder.clock import Clock
from forwarder.config.gateway import ListenSettings
from forwarder.errors import StartupError

log = structlog.get_logger()

LOOK_SECONDS = 30.0
"""Between two looks at the files; mounted secrets take a minute to follow anyway."""


class ServerTls:
    """How TLS is spoken. One for a gateway that does; ``context`` is that of all connections."""

    def __init__(self, listen: ListenSettings, clock: Clock) -> None:
        """Read the files; raises StartupError if they cannot be used."""
        self._cert, self._key = listen.cert_file or "", listen.key_file
        self._clock = clock
        self._looked = clock.steady()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self._read = self._stamp()
        try:
            self._load(self.context)
        except OSError as error:
            msg = f"the certificate of gateway.listen.tls cannot be used: {error}"
            raise StartupError(msg) from error

    def renew(self) -> None:
        """Read the files again if they have changed; what cannot be used changes nothing.

        Caller: the server, every second or so. Connections that are open go on as they are.
        """
        now = self._clock.steady()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        stamp = self._stamp()
        if stamp == self._read:
            return
        self._read = stamp
        try:
            # First elsewhere: a certificate without its key would spoil what is in use.
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            self._load(self.context)
        except OSError as error:
            log.warning(
                "certificate.unusable",
                error=str(error),
                remedy="the former one is shown meanwhile: put certificate and key in place that "
                "belong together",
            )
        else:
            log.info("certificate.renewed")

    def _load(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(self._cert, self._key)

    def _stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Return what changes with the files; a mounted secret is a link to another file then."""
        return tuple(map(_stamp_of, (self._cert, self._key or self._cert)))


def _stamp_of(path: str) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
