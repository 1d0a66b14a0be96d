"""What all decoders do around the reading of a record: what is wrong becomes a ``Reject``."""

from forwarder.formats import framing
from forwarder.formats.bounds import TooManyError
from forwarder.formats.contract import Reject, Upload
from forwarder.formats.rawjson import JsonError, ShapeError
from forwarder.model import Reason


class RecordDecoder:
    """Decodes records of JSON; a format's decoder says by ``_uploads`` how one is read."""

    def decode(
        self, value: bytes, offset: int, time: int, clock: int, *, framed: bool = False
    ) -> list[Upload] | Reject:
        """Decode one record's value; ``time`` and ``clock`` as in ``Upload``.

        ``framed``: what stood before it is off, and is looked for once.
        """
        try:
            if not value.isascii():
                value.decode()
            return self._uploads(value, offset, time, clock)
        except UnicodeDecodeError as error:
            reject = Reject(Reason.INVALID_UTF8, f"not UTF-8 at byte {error.start}")
        except JsonError as error:
            reject = Reject(Reason.INVALID_JSON, str(error))
        except RecursionError:
            return Reject(Reason.INVALID_JSON, "nested too deeply")
        except TooManyError as error:
            return Reject(Reason.TOO_MANY_PARTS, str(error))
        except ShapeError as error:
            return Reject(Reason.NOT_AN_UPLOAD, str(error))
        bare = None if framed else framing.strip_framing(value)
        if bare is not None:
            return self.decode(bare, offset, time, clock, framed=True)
        cause = framing.framing_cause(value)
        return Reject(reject.reason, f"{cause} ({reject.error})") if cause else reject

    def _uploads(self, value: bytes, offset: int, time: int, clock: int) -> list[Upload]:
        """Return the uploads of a value that is UTF-8, one at least.

        Raises JsonError, RecursionError, TooManyError or ShapeError for what is none.
        """
        raise NotImplementedError
