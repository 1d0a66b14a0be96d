"""What all decoders do around the reading of a record: what is wrong becomes a ``Reject``."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

from forwarder.formats import framing
from forwarder.formats.bounds import TooManyError
from forwarder.formats.contract import OddRecord, Reject, Scan, Upload
from forwarder.formats.rawjson import JsonError, ShapeError
from forwarder.model import Reason, Record

IsTold = Callable[[Sequence[tuple[str, bytes | None]]], bool]
_Decode = Callable[[bytes, int, int, int], list[Upload] | Reject]


class Scanner(Protocol):
    """What a format's native core reads a poll with; ``decode`` is asked about what is odd."""

    def scan(
        self, records: Sequence[Record], clock: int, now_ms: int, is_told: IsTold, decode: _Decode
    ) -> tuple[list[Upload], list[OddRecord], int, set[str], bool]:
        """Return the fields of a ``Scan``."""

    def read(self, value: bytes, offset: int, time: int, clock: int) -> Upload | None:
        """Return the upload that a value is, None where ``decode`` has to look at it."""


class PollDecoder(ABC):
    """Decodes a poll record by record; a format's decoder says by ``decode`` how one is read.

    ``scanner`` does it for a format that has a native one, where that is built: the same, faster.
    """

    scanner: Scanner | None = None

    def scan(self, records: Sequence[Record], clock: int, now_ms: int, is_told: IsTold) -> Scan:
        """Return the uploads of a poll (``contract.Decoder``)."""
        if self.scanner is None:
            return self.scan_in_python(records, clock, now_ms, is_told)
        return Scan(*self.scanner.scan(records, clock, now_ms, is_told, self.decode))

    def scan_in_python(
        self, records: Sequence[Record], clock: int, now_ms: int, is_told: IsTold
    ) -> Scan:
        """Return the uploads of a poll, whatever is built: what ``scanner`` is held against."""
        uploads: list[Upload] = []
        odd: list[OddRecord] = []
        types: set[str] = set()
        governed, decode = False, self.decode
        for index, record in enumerate(records):
            time, value = record.timestamp, record.value
            if time > clock:
                clock = max(clock, min(time, now_ms))
            if value is None or (record.headers and is_told(record.headers)):
                odd.append(OddRecord(index, len(uploads), clock, None))
                continue
            found = decode(value, record.offset, time, clock)
            if isinstance(found, Reject) or len(found) != 1:
                odd.append(OddRecord(index, len(uploads), clock, found))
                continue
            (upload,) = found
            upload.size = len(value)
            types.update(upload.types)
            if upload.governed:
                governed = True
            uploads.append(upload)
        return Scan(uploads, odd, clock, types, governed)

    @abstractmethod
    def decode(self, value: bytes, offset: int, time: int, clock: int) -> list[Upload] | Reject:
        """Return the uploads of a record, or why it is none (``contract.Decoder``)."""


class RecordDecoder(PollDecoder, ABC):
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

    @abstractmethod
    def _uploads(self, value: bytes, offset: int, time: int, clock: int) -> list[Upload]:
        """Return the uploads of a value that is UTF-8, one at least.

        Raises JsonError, RecursionError, TooManyError or ShapeError for what is none.
        """
