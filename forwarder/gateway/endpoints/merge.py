"""What an update makes of an endpoint: the rules of UpdateEndpoint, and its limits. Pure.

* A member that is given replaces, one that is absent or null stays. ``Demographic``, ``Location``
  and ``User`` are given member by member: clients send the few they know (Amplify leaves the device
  out of every update but the first), and what they do not name is not forgotten.
* ``Attributes``, ``Metrics`` and ``User.UserAttributes`` merge by key: a key's values are replaced
  as a whole (AWS, UpdateEndpoint: "replaces any existing values with the new values"), null or an
  empty list deletes the key.
* An update whose ``EffectiveDate`` is older than the stored one changes nothing. One without it is
  never old: it is dated by its arrival. Where it says nothing new it changes nothing, not even
  the date: a server that names the whole endpoint with every event does not write it each time.
* Members that are the store's own cannot be given: ``ApplicationId``, ``Id``, ``CohortId`` and
  ``CreationDate``.
"""

import zlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import orjson

from forwarder.config.gateway import GatewayLimits
from forwarder.formats.pinpoint.timestamps import milliseconds
from forwarder.gateway.endpoints.contract import EndpointUpdate, Merge, Merged
from forwarder.gateway.endpoints.dates import FIRST_MS, LAST_MS, iso_date

COHORTS = 100
MAPS = frozenset({"Attributes", "Metrics", "UserAttributes"})
STRUCTURES = frozenset({"Demographic", "Location", "User"})
OWN = frozenset({"ApplicationId", "CohortId", "CreationDate", "EffectiveDate", "Id"})
"""Members that are never copied from an update; EffectiveDate is, but by rules of its own."""


def make_merge(limits: GatewayLimits) -> Merge:
    """Return the merge that keeps to these limits. Caller: whoever opens a store."""
    return partial(merge_update, limits)


def merge_update(
    limits: GatewayLimits, app: str, endpoint: str, stored: bytes | None, update: EndpointUpdate
) -> Merged:
    """Merge an update into an endpoint as it is stored; None: there is none, so it is created.

    The bytes are the same for the same content, however it came about: keys are sorted.
    """
    given = update.given
    if stored is not None and not given:
        return Merged(stored, changed=False)
    arrival = iso_date(update.arrival_ms)
    before = _created(app, endpoint, arrival) if stored is None else orjson.loads(stored)
    date = _date(given)
    if stored is not None and date is not None and date < before["EffectiveDate"]:
        return Merged(stored, changed=False)
    after = _merged(before, given)
    if date is None and stored is not None and after == before:
        return Merged(stored, changed=False)
    after["EffectiveDate"] = date or arrival
    fault = _fault(limits, before if stored is not None else {}, after, given)
    content = orjson.dumps(after, option=orjson.OPT_SORT_KEYS)
    if len(content) > limits.endpoint_bytes and len(content) > len(stored or b""):
        fault = fault or _above("bytes of the endpoint", len(content), limits.endpoint_bytes)
    if fault:
        return Merged(stored or b"", changed=False, fault=fault)
    return Merged(content, changed=content != stored)


def cohort(endpoint: str) -> str:
    """Return the CohortId of an endpoint id: "0" to "99", the same wherever it is asked."""
    return str(zlib.crc32(endpoint.encode()) % COHORTS)


def user_id(endpoint: bytes) -> str:
    """Return the ``User.UserId`` of a stored endpoint; "": it has none. Caller: the stores."""
    user = orjson.loads(endpoint).get("User", {}).get("UserId", "")
    return user if isinstance(user, str) else ""


def _date(given: Mapping[str, Any]) -> str | None:
    """Return an update's EffectiveDate as all are stored, so that texts compare as times do.

    None where it names none, or no time that a date of four digits' years can tell.
    """
    sent = given.get("EffectiveDate")
    ms = milliseconds(sent) if isinstance(sent, str) else None
    return iso_date(ms) if ms is not None and FIRST_MS <= ms <= LAST_MS else None


def _created(app: str, endpoint: str, arrival: str) -> dict[str, Any]:
    """Return an endpoint of which nothing was said: GetEndpoint answers every container."""
    return {
        "ApplicationId": app,
        "Attributes": {},
        "CohortId": cohort(endpoint),
        "CreationDate": arrival,
        "Demographic": {},
        "EffectiveDate": arrival,
        "EndpointStatus": "ACTIVE",
        "Id": endpoint,
        "Location": {},
        "Metrics": {},
        "OptOut": "NONE",
        "User": {},
    }


def _merged(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``before`` with what is given; neither is changed."""
    after = dict(before)
    for name, value in given.items():
        if value is None or name in OWN:
            continue
        if name in MAPS:
            after[name] = _by_key(before.get(name, {}), value)
        elif name in STRUCTURES:
            after[name] = _merged(before.get(name, {}), value)
        else:
            after[name] = value
    return after


def _by_key(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    after = dict(before)
    for key, value in given.items():
        if value is None or value == []:
            after.pop(key, None)
        else:
            after[key] = value
    return after


def _fault(
    limits: GatewayLimits,
    before: Mapping[str, Any],
    after: dict[str, Any],
    given: Mapping[str, Any],
) -> str:
    """Return which limit of counts an update passes, "": none.

    What is above a limit already, because the limit was lowered, may stay so but not grow.
    """
    for name in ("Attributes", "Metrics", "UserAttributes"):
        inside = name == "UserAttributes"
        old, new, said = (
            (it.get("User") or {} if inside else it).get(name) or {}
            for it in (before, after, given)
        )
        if len(new) > limits.endpoint_attributes and len(new) > len(old):
            return _above(f"keys of {name}", len(new), limits.endpoint_attributes)
        for values in said.values():
            if isinstance(values, list) and len(values) > limits.attribute_values:
                return _above(f"values of a key of {name}", len(values), limits.attribute_values)
    return ""


def _above(what: str, number: int, limit: int) -> str:
    return f"The number of {what} is {number}: it should be no more than {limit}"
