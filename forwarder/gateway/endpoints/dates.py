"""Dates as Pinpoint writes them in endpoints."""

FIRST_MS = -62_135_596_800_000
"""The first moment of the year 1."""
LAST_MS = 253_402_300_799_999
"""The last of the year 9999."""

_DAYS_TO_EPOCH = 719_468  # from March 1 of year 0 to January 1, 1970
_DAYS_IN_ERA = 146_097  # 400 years of the Gregorian calendar


def iso_date(ms: int) -> str:
    """Return milliseconds since the epoch as ``2026-01-31T23:59:59.000Z``, for the years 0 to 9999.

    All have one length, so they compare as texts as they do as times.
    """
    seconds, milliseconds = divmod(ms, 1000)
    days, seconds = divmod(seconds, 86_400)
    year, month, day = _civil(days)
    hour, minute, second = seconds // 3600, seconds // 60 % 60, seconds % 60
    return (
        f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}.{milliseconds:03d}Z"
    )


def _civil(days: int) -> tuple[int, int, int]:
    """Return year, month and day of a number of days since the epoch.

    Years are counted from March on, so that the leap day is a year's last.
    """
    era, day_of_era = divmod(days + _DAYS_TO_EPOCH, _DAYS_IN_ERA)
    leaps = day_of_era // 1460 - day_of_era // 36_524 + day_of_era // 146_096
    year_of_era = (day_of_era - leaps) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_from_march + 2) // 5 + 1
    month = month_from_march + 3 if month_from_march < 10 else month_from_march - 9  # noqa: PLR2004
    return era * 400 + year_of_era + (month <= 2), month, day  # noqa: PLR2004
