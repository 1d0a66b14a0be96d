"""Athena as far as queries over Pinpoint's event stream need it: DuckDB with Presto's functions.

``all_events`` has the columns of the table that AWS's "Digital User Engagement Events Database"
declares in Glue over the delivery stream's bucket, type by type. The queries in ``data/athena``
are in Athena's dialect: the figures that AWS has told its users to compute from the stream
("Migrating to the Amazon Pinpoint API", KPI metrics based on event data) and the views of that
solution. What DuckDB lacks of Presto's functions are macros here; no query is changed for it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

QUERIES = Path(__file__).parent / "data" / "athena"

MAIL = (
    "STRUCT(message_id VARCHAR, message_send_timestamp BIGINT, from_address VARCHAR, "
    "destination VARCHAR[], headers_truncated BOOLEAN, headers MAP(VARCHAR, VARCHAR)[], "
    'common_headers STRUCT("from" VARCHAR, "to" VARCHAR[], subject VARCHAR))'
)
FACETS = (
    f"STRUCT(email_channel STRUCT(mail_event STRUCT(mail {MAIL}, send MAP(VARCHAR, VARCHAR), "
    "delivery STRUCT(smtp_response VARCHAR, reporting_mta VARCHAR, recipients VARCHAR[], "
    "processing_time_millis INTEGER))))"
)
COLUMNS = {
    "event_type": "VARCHAR",
    "event_timestamp": "BIGINT",
    "arrival_timestamp": "BIGINT",
    "event_version": "VARCHAR",
    "application": "STRUCT(app_id VARCHAR, sdk MAP(VARCHAR, VARCHAR))",
    "client": "STRUCT(client_id VARCHAR, cognito_id VARCHAR)",
    "device": "STRUCT(platform MAP(VARCHAR, VARCHAR))",
    "session": "MAP(VARCHAR, VARCHAR)",
    "attributes": "MAP(VARCHAR, VARCHAR)",
    "client_context": "STRUCT(custom MAP(VARCHAR, VARCHAR))",
    "awsAccountId": "VARCHAR",
    "facets": FACETS,
    "metrics": "STRUCT(price_in_millicents_usd DOUBLE)",
}
"""Glue's ``all_events``: string VARCHAR, bigint BIGINT, map<string,string> MAP."""

WIDER = {**COLUMNS, "metrics": "MAP(VARCHAR, DOUBLE)"}
"""The same for who counts more than the price of texts."""

PRESTO = (
    "SET integer_division = true",
    "SET TimeZone = 'UTC'",
    "CREATE MACRO from_unixtime(seconds) AS make_timestamp(seconds::BIGINT * 1000000)",
    "CREATE MACRO json_extract_scalar(text, path) AS json_extract_string(text, path)",
    "CREATE MACRO date_format(moment, pattern) AS strftime(moment, pattern)",
    "CREATE MACRO approx_distinct(value) AS count(DISTINCT value)",
    "CREATE MACRO regexp_like(text, pattern) AS regexp_matches(text, pattern)",
    "CREATE MACRO element_at(found, name) AS found[name]",
    "CREATE MACRO date_add(unit, amount, moment) AS CAST(moment + to_days(amount) AS DATE)",
)


class Athena:
    """Queries over the objects of a bucket."""

    def __init__(self, objects: Sequence[bytes], folder: Path) -> None:
        """Load a bucket's objects into the tables; raises duckdb.Error for what does not fit."""
        file = folder / "bucket.ndjson"
        file.write_bytes(b"".join(objects))
        self._connection = duckdb.connect()
        for statement in PRESTO:
            self._connection.execute(statement)
        for name, columns in {"all_events": COLUMNS, "app_events": WIDER}.items():
            self._connection.execute(
                f"CREATE TABLE {name} AS SELECT * FROM read_json($file, "  # noqa: S608  # a constant
                "format = 'newline_delimited', columns = $columns)",
                {"file": str(file), "columns": columns},
            )

    def run(self, name: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query in ``data/athena``."""
        return self.execute((QUERIES / f"{name}.sql").read_text())

    def execute(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return self._connection.execute(query).fetchall()

    def close(self) -> None:
        """Let go of the tables."""
        self._connection.close()
