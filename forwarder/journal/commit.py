"""What stands in the metadata of the group's commit of one input partition: its one codec.

Written by every tick (K4) and read by every opening (O2); docs/formats.md has the fields. It is a
hint beside the state, which holds the truth: whoever misses it, or gets the one before, opens the
same partition (I19).
"""

import json
from typing import Any, TypeGuard

import msgspec

from forwarder.errors import RefusedError
from forwarder.journal.packing import VERSION, is_readable
from forwarder.model import Commit


class CommitMetadata(msgspec.Struct, frozen=True):
    """What a tick, or the start of a partition, says beside its offset.

    ``n``: the tick's number. ``ptr``: state offset of the newest base committed before it, or the
    state's log start; None where there is no state yet. ``outbox``: the offset behind the last
    batch then in the outbox; 0 if it does not say. ``stopped``: since which wall-clock milliseconds
    the input is not collected; 0: it is. ``paused``: why it was not read when the tick was made,
    and ``paused_since`` (wall-clock ms); empty: it was. ``start``: where a group began that had
    neither commit nor state; then it says nothing else.
    """

    n: int = 0
    ptr: int | None = None
    outbox: int = 0
    stopped: int = 0
    paused: str = ""
    paused_since: int = 0
    start: str = ""


def encode_metadata(metadata: CommitMetadata) -> str:
    """Return the text to commit, below 300 bytes; Kafka takes 4,096 by default."""
    content: dict[str, int | str] = {"v": VERSION}
    if metadata.start:
        content["start"] = metadata.start
    if metadata.ptr is not None:
        content |= {"n": metadata.n, "ptr": metadata.ptr}
    if metadata.stopped:
        content["stopped"] = metadata.stopped
    if metadata.paused:
        content |= {"paused": metadata.paused, "paused_since": metadata.paused_since}
    if metadata.outbox and metadata.ptr is not None:
        content["outbox"] = metadata.outbox
    return json.dumps(content, separators=(",", ":"))


def decode_metadata(commit: Commit | None) -> CommitMetadata | None:
    """Return what a commit says; None without one, and if an operator set the offset.

    Whatever carries no version was set by an operator. Fields that are missing, of a later release
    or of another type are passed over. Raises RefusedError for a version this release cannot read.
    """
    content = _content(commit)
    if "v" not in content:
        return None
    if not is_readable(content["v"]):
        what = f"the committed offset carries format version {content['v']!r}"
        raise RefusedError(what, "it was written by a later release: roll forward again")
    return _typed(content)


def metadata_hint(commit: Commit | None) -> CommitMetadata:
    """Return what a commit says, of whatever version: where to begin to read, and no decision.

    Caller: a journal, which reads what :func:`decode_metadata` is judged with. Raises nothing.
    """
    return _typed(_content(commit))


def _content(commit: Commit | None) -> dict[str, Any]:
    try:
        content = json.loads(commit.metadata) if commit else {}
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _typed(content: dict[str, Any]) -> CommitMetadata:
    ptr = content.get("ptr")
    return CommitMetadata(
        n=_number(content, "n"),
        ptr=ptr if _is_number(ptr) else None,
        outbox=_number(content, "outbox"),
        stopped=_number(content, "stopped"),
        paused=_text(content, "paused"),
        paused_since=_number(content, "paused_since"),
        start=_text(content, "start"),
    )


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _number(content: dict[str, Any], name: str) -> int:
    value = content.get(name)
    return value if _is_number(value) else 0


def _text(content: dict[str, Any], name: str) -> str:
    value = content.get(name)
    return value if isinstance(value, str) else ""
