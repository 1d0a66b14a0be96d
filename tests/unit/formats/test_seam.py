"""What is neutral of formats and destinations names none: the list, and its exceptions."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from forwarder.formats.mparticle import identity
from forwarder.formats.mparticle.event_filter import INTEGER_IDS, SETTING_BY_EVENT_TYPE
from forwarder.formats.mparticle.not_uploads import ONLY_UPLOADS

FORWARDER = Path(__file__).parents[3] / "forwarder"
ROOMS = ("collect", "rules", "journal", "deliver", "sources")

FIELDS = {
    *ONLY_UPLOADS, *INTEGER_IDS, *SETTING_BY_EVENT_TYPE, *identity.DEVICE_ID_KEYS,
    "api_key", "api_keys", "attribution_info", "breadcrumbs", "custom_attributes",
    "custom_flags", "customer_id", "event_name", "event_num", "event_type",
    "identity_type", "integration_attributes", "job_id", "message_id", "message_type",
    "origin_mpid", "partner_identities", "partner_identity", "schema_version", "screen_name",
    "sdk_version", "session_uuid", "source_info", "system_notifications",
    "timestamp_unixtime_ms", "unique_id",
} - {"profile"}  # fmt: skip
"""Names that mParticle gives; a plain word of English is none of them."""

DESTINATIONS = {
    "kinesis", "firehose", "kinesistarget", "firehosetarget", "filetarget", "partitionkey",
    "putrecord", "putrecords", "shard", "shards",
}  # fmt: skip

ALLOWED = {
    "journal/outbox.py": {"mpid"},  # a stored field
    "rules/match.py": {"api_key", "api_keys"},  # of a connection file, and of ``InputFormat``
    "collect/windows/sessions.py": {"session_start", "session_end"},  # of ``InputFormat``
    # Replies name the part of a destination that is slow, and rates are counted in it.
    "deliver/lane.py": {"shard"},
    "deliver/retries.py": {"shard"},
    "deliver/rate_limit.py": {"shard", "shards"},
}
"""By module the names that it may have all the same."""

MODULES = sorted(path for room in ROOMS for path in (FORWARDER / room).rglob("*.py"))


def words(tree: ast.AST) -> Iterator[str]:
    """Yield every identifier, and every text or bytes that is no docstring."""
    docs = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.keyword(arg=str(name)) | ast.alias(name=name):
                yield name
            case ast.Constant(value=str(text)) if id(node) not in docs:
                yield text
            case ast.Constant(value=bytes(text)) if id(node) not in docs:
                yield text.decode(errors="replace")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(FORWARDER)))
def test_a_neutral_module_names_no_format_and_no_destination(path: Path) -> None:
    used = {
        piece.strip("_")
        for word in words(ast.parse(path.read_text()))
        for piece in word.replace('"', " ").replace(":", " ").replace(".", " ").split()
    }
    found = (used & FIELDS) | ({one.lower() for one in used} & {*DESTINATIONS, "mparticle"})
    assert ALLOWED.get(str(path.relative_to(FORWARDER)), set()) == found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(FORWARDER)))
def test_its_prose_names_no_format_either(path: Path) -> None:
    text = path.read_text().lower()
    names = ("mparticle", "mp_deviceid", "user_identities", "device_info", "system_notifications")
    assert [] == [name for name in names if name in text]
