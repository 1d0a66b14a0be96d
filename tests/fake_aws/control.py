"""The control API of a fake AWS that runs as a process.

``POST /_control`` begins a fault: ``{"stream": name or null, "fault": name, ..., "seconds": n}``,
arguments as in ``faults``; answers with its number. ``POST /_control/clear`` ends all, or
``{"number": n}``, or ``{"stream": name}``. ``POST /_control/world`` makes streams, roles and users.
``GET /_control/state`` tells what there is.
"""

from typing import Any

import msgspec

from tests.fake_aws.accounts import HOME_ACCOUNT, Keys
from tests.fake_aws.faults import Deleted, Revoke, fault_of
from tests.fake_aws.policy import Document, allow, root_arn, trust
from tests.fake_aws.shards import DeliveryStream, Limits, Stream
from tests.fake_aws.web import Reply, Request
from tests.fake_aws.world import World

PATH = "/_control"


class NewStream(msgspec.Struct, forbid_unknown_fields=True):
    """A stream to make; ``limits`` as AWS's unless given."""

    account: str = HOME_ACCOUNT
    shards: int = 2
    limits: Limits | None = None


class NewRole(msgspec.Struct, forbid_unknown_fields=True):
    """A role to make: what it may do, by actions or by policy, and who may assume it."""

    account: str = HOME_ACCOUNT
    actions: list[str] = []
    policy: dict[str, Any] | None = None
    external_id: str | None = None
    trust: dict[str, Any] | None = None
    longest: int = 3600


class NewUser(msgspec.Struct, forbid_unknown_fields=True):
    """A user to make, with these access keys."""

    access_key_id: str
    secret_access_key: str
    account: str = HOME_ACCOUNT
    actions: list[str] = []
    policy: dict[str, Any] | None = None


class NewWorld(msgspec.Struct, forbid_unknown_fields=True):
    """What to make, by name; what exists already is made anew."""

    streams: dict[str, NewStream] = {}
    delivery_streams: dict[str, NewStream] = {}
    roles: dict[str, NewRole] = {}
    users: dict[str, NewUser] = {}


class Cleared(msgspec.Struct, forbid_unknown_fields=True):
    """Which faults to end: all unless one of these is given."""

    number: int | None = None
    stream: str | None = None


def answer(world: World, request: Request) -> Reply:
    """Obey a call of the control API; 400 and a reason for what cannot be understood."""
    try:
        found = _obey(world, request.target.removeprefix(PATH), request.body or b"{}")
    except (ValueError, TypeError) as error:
        return Reply.of({"error": str(error)}, 400)
    if found is None:
        return Reply.of({"error": f"there is no {request.target}"}, 404)
    return Reply.of(found)


def _obey(world: World, path: str, body: bytes) -> object:
    if path == "":
        return {"number": begin(world, msgspec.json.decode(body))}
    if path == "/clear":
        cleared = msgspec.json.decode(body, type=Cleared)
        world.faults.clear(cleared.number, cleared.stream)
        return {}
    if path == "/world":
        make(world, msgspec.json.decode(body, type=NewWorld))
        return {}
    return state(world) if path == "/state" else None


def begin(world: World, content: object) -> int:
    """Begin a fault, and do at once what it changes at its beginning; return its number."""
    fault = fault_of(content)
    if isinstance(fault, Deleted):
        if fault.stream is None:
            text = "deleted: name the stream"
            raise ValueError(text)
        world.forget(fault.stream)
    if isinstance(fault, Revoke):
        world.revoke(fault.role)
    return world.faults.add(fault)


def make(world: World, new: NewWorld) -> None:
    """Make streams, roles and users."""
    for name, one in new.streams.items():
        world.make_stream(name, one.account, one.shards, one.limits)
    for name, one in new.delivery_streams.items():
        world.make_delivery_stream(name, one.account, one.limits)
    for name, role in new.roles.items():
        trusted = role.trust or trust(root_arn(HOME_ACCOUNT), role.external_id)
        policy = _policy(role.policy, role.actions)
        world.accounts.make_role(name, role.account, policy, trusted, role.longest)
    for name, user in new.users.items():
        keys = Keys(user.access_key_id, user.secret_access_key)
        policy = _policy(user.policy, user.actions)
        world.accounts.make_user(name, user.account, policy, keys)


def _policy(document: Document | None, actions: list[str]) -> Document:
    return allow(actions) if document is None else document


def state(world: World) -> object:
    """Tell what there is, what goes wrong at present, and how often what was called."""
    return {
        "streams": {name: _stream(one) for name, one in world.streams.items()},
        "delivery_streams": {name: _stream(one) for name, one in world.delivery_streams.items()},
        "faults": [
            {"number": one.number, "left": left, **msgspec.to_builtins(one.fault)}
            for one, left in world.faults.present()
        ],
        "calls": [
            {"service": service, "action": action, "code": code, "count": count}
            for (service, action, code), count in sorted(world.counts.items())
        ],
        "sessions": world.accounts.sessions,
    }


def _stream(one: Stream | DeliveryStream) -> dict[str, int]:
    return {"records": one.count, "bytes": one.volume, "throttled": one.throttled}
