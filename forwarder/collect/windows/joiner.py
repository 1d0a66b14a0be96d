"""What joins uploads to windows natively, where there is a native core."""

from typing import NamedTuple, Protocol

from forwarder import native
from forwarder.collect.windows.queues import SECOND_MS
from forwarder.collect.windows.shares import Shares
from forwarder.collect.windows.table import SHIFT
from forwarder.collect.windows.window import LEAST_BYTES, PIECE_OVERHEAD_BYTES, Window
from forwarder.formats.contract import ContextShape, Upload
from forwarder.model import CloseReason


class JoinBounds(NamedTuple):
    """What bounds the windows of a store that the usual uploads join; bytes and milliseconds.

    ``small_context``, ``small_events``: of a record, see ``RecordFit``; ``max_events``,
    ``max_age_ms``: of a window, from the connection; ``first_look``: see ``TailSizes``.
    """

    small_context: int
    small_events: int
    max_events: int
    max_age_ms: int
    first_look: int
    least: int = LEAST_BYTES
    piece_overhead: int = PIECE_OVERHEAD_BYTES
    second_ms: int = SECOND_MS
    table_shift: int = SHIFT


class Joiner(Protocol):
    """Joins uploads as ``WindowStore`` does itself where there is none. Caller: that store."""

    def join(
        self,
        store: object,
        uploads: list[Upload],
        parts: list[dict[bytes, Window]],
        taking: Shares | None,
    ) -> tuple[int, int, int]:
        """Add whole uploads that come for the first time to the windows in the table's parts.

        Their pieces are entered in ``taking``, if that is not None. What is unusual it leaves to
        the store's ``_take_one``. Returns how many events joined besides, their bytes, and by how
        much the store's memory is more.
        """


def native_joiner(bounds: JoinBounds) -> Joiner | None:
    """Return the native core's joiner; None: there is none, or these classes are none it knows."""
    core = native.core()
    if core is None:
        return None
    try:
        made: Joiner = core.Joiner(Upload, Window, ContextShape, CloseReason.AGE, bounds)
    except TypeError:
        return None
    return made
