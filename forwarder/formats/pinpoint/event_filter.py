"""Keep of every upload the events that the settings of a connection want; none is changed.

What settings change is changed when documents are made: of an event of Pinpoint they govern nothing
that is not its endpoint's, too.
"""

from collections.abc import Sequence

from forwarder.config.connection import Settings
from forwarder.formats import rawjson
from forwarder.formats.contract import DUPLICATES, Kept, Upload
from forwarder.formats.ids import digest
from forwarder.formats.memo import Memo
from forwarder.formats.pieces import runs
from forwarder.formats.pinpoint import kinds
from forwarder.model import Piece

JUDGEMENT = 1
"""Goes up when a filter keeps other events under the same settings: windows saved before are judged
anew then."""

_MEMO = 1024


class PinpointEventFilter:
    """What one connection keeps, by the types of events: ``contract.EventFilter``."""

    def __init__(self, connection: str, settings: Settings) -> None:
        """Compile the settings; ``connection`` is the name under which events are counted."""
        self._lane = connection
        self._views = settings.screen_view_event_types
        off = tuple(name for name in kinds.SETTINGS if not getattr(settings, name))
        self.empty_too = settings.send_batches_without_events
        self.reasons = (*off, kinds.TEST_EVENTS)
        told = JUDGEMENT, off, sorted(set(self._views)), self.empty_too
        self.rule = digest(repr(told).encode()).hex()
        self._off = frozenset((*off, kinds.TEST_EVENTS, DUPLICATES))
        # By type the reason why it is left out; "": it passes.
        self._refusals: Memo[str, str] = Memo(_MEMO)

    def sift(
        self, uploads: Sequence[Upload], filtered: dict[tuple[str, str], int]
    ) -> tuple[list[Kept], list[Upload]]:
        """Return what is kept of each upload; all can be read.

        Adds to ``filtered``, by (lane, reason), the events that are left out.
        """
        return [(upload, self._sift(upload, filtered)) for upload in uploads], []

    def keeps_all(self, upload: Upload) -> bool:
        """Tell whether all events pass."""
        return not any(map(self._refusal, upload.types))

    def passes(self, types: set[str], *, governed: bool) -> bool:  # noqa: ARG002  # nothing is changed
        """Tell whether all events of these types pass."""
        return not any(map(self._refusal, types))

    def _sift(self, upload: Upload, filtered: dict[tuple[str, str], int]) -> list[Piece]:
        types = upload.types
        if len(types) == 1 and self._refusals.get(types[0]) == "":
            return [(upload.offset, upload.start, 1, upload.time, upload.body)]
        refusals = [self._refusal(kind) for kind in types]
        if types and not any(refusals):
            return [(upload.offset, upload.start, len(types), upload.time, upload.body)]
        wanted = [at for at, reason in enumerate(refusals) if not reason]
        for reason in filter(None, refusals):
            key = (self._lane, reason)
            filtered[key] = filtered.get(key, 0) + 1
        if wanted:
            events = rawjson.split_values(upload.body)
            return [
                (upload.offset, upload.start + a, b - a, upload.time, b",".join(events[a:b]))
                for a, b in runs(wanted)
            ]
        if self.empty_too:
            return [(upload.offset, upload.start, 0, upload.time, b"")]
        return []

    def _refusal(self, kind: str) -> str:
        """Return why events of a type are left out; empty: they pass."""
        known = self._refusals.get(kind)
        if known is None:
            setting = kinds.setting_of(kind, self._views)
            known = setting if setting in self._off else ""
            self._refusals.keep(kind, known, 2 * len(kind))
        return known
