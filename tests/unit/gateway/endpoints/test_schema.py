import pytest

from forwarder.gateway.endpoints import schema
from forwarder.gateway.endpoints.contract import StoreError


def test_a_store_is_brought_up_to_date_version_by_version() -> None:
    known = (("one",), ("two", "three"), ("four",))
    assert [(2, ("two", "three")), (3, ("four",))] == schema.missing_versions(known, 1)
    assert [] == schema.missing_versions(known, 3)


def test_a_newer_schema_is_refused() -> None:
    with pytest.raises(StoreError, match="has schema version 2, this program knows 1") as raised:
        schema.missing_versions((("one",),), 2)
    assert raised.value.lasting


def test_both_stores_are_at_the_same_version() -> None:
    assert len(schema.SQLITE) == len(schema.POSTGRES)
