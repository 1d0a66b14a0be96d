"""The stores' tables, version by version.

Forward only: a version that was released is never changed, the next one is added behind it. It may
add what an older program passes over (a table, an index, a column with a default), because the
gateways of a rolling update run beside each other for a while; an older program that starts anew
refuses a schema that it does not know. ``tests/data/endpoints`` keeps a dump of every version.
"""

from collections.abc import Sequence

from forwarder.gateway.endpoints.contract import StoreError

VERSIONS_TABLE = "forwarder_endpoints_versions"
"""Holds a row for each version that was applied; the same name in every store."""

SQLITE: tuple[tuple[str, ...], ...] = (
    (
        """\
CREATE TABLE forwarder_endpoints (
    app BLOB NOT NULL,
    endpoint BLOB NOT NULL,
    user_id BLOB,
    document BLOB NOT NULL,
    PRIMARY KEY (app, endpoint)
)""",
        """\
CREATE INDEX forwarder_endpoints_user
ON forwarder_endpoints (app, user_id) WHERE user_id IS NOT NULL""",
    ),
)

# version: another one for every stored change, so that an endpoint that was deleted and came back
# is not taken for what it was. fillfactor: room for a row's next version on its page, so that
# the indexes need not be told of it.
POSTGRES: tuple[tuple[str, ...], ...] = (
    (
        "CREATE SEQUENCE forwarder_endpoints_version",
        """\
CREATE TABLE forwarder_endpoints (
    app bytea NOT NULL,
    endpoint bytea NOT NULL,
    user_id bytea,
    version bigint NOT NULL DEFAULT nextval('forwarder_endpoints_version'),
    document bytea NOT NULL,
    PRIMARY KEY (app, endpoint)
) WITH (fillfactor = 80)""",
        """\
CREATE INDEX forwarder_endpoints_user
ON forwarder_endpoints (app, user_id) WHERE user_id IS NOT NULL""",
    ),
)


def missing_versions(
    known: Sequence[tuple[str, ...]], stored: int
) -> list[tuple[int, tuple[str, ...]]]:
    """Return the versions that a store lacks, each with its statements, in order.

    ``stored``: its version, 0: it is empty. Raises StoreError where it is newer than what is known.
    """
    if stored > len(known):
        text = f"the endpoint store has schema version {stored}, this program knows {len(known)}"
        raise StoreError(
            text, "run the newer program that wrote it, or restore an older backup", lasting=True
        )
    return [(number, known[number - 1]) for number in range(stored + 1, len(known) + 1)]
