from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from forwarder.gateway.endpoints.dates import iso_date

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST = 253_402_300_799_999


@given(st.integers(-62_135_596_800_000, LAST))
def test_dates_are_those_of_the_calendar(ms: int) -> None:
    date = EPOCH + timedelta(milliseconds=ms)
    assert date.isoformat(timespec="milliseconds").replace("+00:00", "Z") == iso_date(ms)


@given(st.integers(0, LAST), st.integers(0, LAST))
def test_dates_compare_as_their_texts(one: int, other: int) -> None:
    assert (one < other) == (iso_date(one) < iso_date(other))


def test_leap_days_are_where_they_are() -> None:
    assert "2024-02-29T00:00:00.000Z" == iso_date(1_709_164_800_000)
    assert "1970-01-01T00:00:00.000Z" == iso_date(0)
