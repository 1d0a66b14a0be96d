"""Keep of every upload the events that the settings of a connection want, changed as they ask."""

from collections.abc import Callable, Iterator, Sequence

from forwarder.config.connection import Settings
from forwarder.formats.contract import Kept, Upload
from forwarder.formats.mparticle import transform
from forwarder.model import STATUS, Piece

UNKNOWN_EVENTS = "send_unknown_events"

GOVERNING: dict[str, str | None] = {
    "session_start": "send_lifecycle_events",
    "session_end": "send_lifecycle_events",
    "application_state_transition": "send_lifecycle_events",
    "first_run": "send_lifecycle_events",
    "screen_view": "send_screen_views",
    "crash_report": "send_crash_events",
    "breadcrumb": "send_crash_events",
    "network_performance": "send_network_performance_events",
    "custom_event": "send_custom_events",
    "push_registration": "send_push_registrations_and_receipts",
    "push_message": "send_push_registrations_and_receipts",
    "push_reaction": "send_push_registrations_and_receipts",
    "profile": "send_profile_change_events",
    "commerce_event": "send_commerce_events",
    "user_attribute_change": "include_user_attribute_change_events",
    "user_identity_change": "include_user_identity_change_events",
    "validation_result": "send_validation_results",
    "opt_out": None,
    "uninstall": None,
    "pre_attribution": None,
}
"""Event type -> the setting that lets it pass; None: always sent."""


def transform_of(settings: Settings) -> int:
    """Return what these settings change in every event, as flags of ``transform``."""
    strip = 0 if settings.include_location_information else transform.STRIP_LOCATION
    return strip | (transform.QUOTE_INTEGERS if settings.int64_as_string else 0)


def leaves_out(settings: Settings, *, active: bool = True) -> tuple[str, ...]:
    """Return the settings by which a connection leaves events out, as they are counted."""
    names = [name for name in (*dict.fromkeys(GOVERNING.values()), UNKNOWN_EVENTS) if name]
    off = [name for name in names if not getattr(settings, name)]
    return tuple(off if active else [*off, STATUS])


class Filter:
    """The compiled keep table of one connection."""

    def __init__(self, lane: str, settings: Settings) -> None:
        """Compile the settings; ``lane`` is the name under which events are counted."""
        self._lane = lane
        self._transform = transform_of(settings)
        self._empty_too = settings.send_batches_without_events
        self._dropped = {
            kind: name for kind, name in GOVERNING.items() if name and not getattr(settings, name)
        }
        self._drop = frozenset(self._dropped)
        self._keep = frozenset(GOVERNING) - self._drop
        self._unknown_pass = settings.send_unknown_events
        self._all_pass: Callable[[list[str]], bool] = (
            self._drop.isdisjoint if self._unknown_pass else self._keep.issuperset
        )

    def sift(
        self, uploads: Sequence[Upload], filtered: dict[tuple[str, str], int]
    ) -> tuple[list[Kept], list[Upload]]:
        """Return what is kept of each upload, and the uploads that could not be changed.

        Adds to ``filtered``, by (lane, setting), the events that are left out.
        """
        kept: list[Kept] = []
        failed: list[Upload] = []
        for upload in uploads:
            try:
                kept.append((upload, self._sift(upload, filtered)))
            except (ValueError, RecursionError):  # never forward what could not be stripped
                failed.append(upload)
        return kept, failed

    def keeps_all(self, upload: Upload) -> bool:
        """Tell whether all events pass and none is changed; False where that is not sure."""
        return self._all_pass(upload.types) and not transform.needed(upload, self._transform)

    def _sift(self, upload: Upload, filtered: dict[tuple[str, str], int]) -> list[Piece]:
        types = upload.types
        if types and self._all_pass(types):
            joined = transform.body(upload, self._transform)
            return [(upload.offset, upload.start, len(types), upload.time, joined)]
        pieces = self._pick(upload, filtered) if types else []
        if not pieces and self._empty_too:
            return [(upload.offset, upload.start, 0, upload.time, b"")]
        return pieces

    def _pick(self, upload: Upload, filtered: dict[tuple[str, str], int]) -> list[Piece]:
        """Return the events that pass, as runs without gaps."""
        wanted: list[int] = []
        refused: list[str] = []
        for i, kind in enumerate(upload.types):
            setting = self._refusal(kind)
            if setting is None:
                wanted.append(i)
            else:
                refused.append(setting)
        # Before anything is counted: what cannot be changed becomes a letter with all its events.
        events = transform.parts(upload, self._transform) if wanted else []
        for setting in refused:
            key = (self._lane, setting)
            filtered[key] = filtered.get(key, 0) + 1
        if not wanted:
            return []
        return [
            (upload.offset, upload.start + a, b - a, upload.time, b",".join(events[a:b]))
            for a, b in _runs(wanted)
        ]

    def _refusal(self, kind: str) -> str | None:
        """Return the setting that keeps a type out, None if it passes."""
        if kind in GOVERNING:
            return self._dropped.get(kind)
        return None if self._unknown_pass else UNKNOWN_EVENTS


def _runs(indices: list[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, one past the last) of every run of consecutive numbers."""
    start = previous = indices[0]
    for index in indices[1:]:
        if index != previous + 1:
            yield start, previous + 1
            start = index
        previous = index
    yield start, previous + 1
