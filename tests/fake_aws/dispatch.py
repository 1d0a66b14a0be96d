"""The order of things for one call: read, meet a fault, ask who it is and whether he may, obey."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from tests.fake_aws import firehose, kinesis, reads, signature, sts
from tests.fake_aws.accounts import Login
from tests.fake_aws.errors import (
    EXPIRED_TOKEN,
    UNKNOWN_OPERATION,
    UNRECOGNIZED_CLIENT,
    AwsError,
    refusal,
)
from tests.fake_aws.faults import Call, Error, Fate, Lost, Reset, Service, Slow, Stall, Stray
from tests.fake_aws.web import Reply, Request
from tests.fake_aws.world import World

KINESIS = "Kinesis_20131202"
FIREHOSE = "Firehose_20150804"

Obey = Callable[[World, Login], tuple[Reply, Sequence[bytes]]]


class Asked(NamedTuple):
    """A call that was read; ``obey`` does it for somebody who may."""

    call: Call
    records: int
    obey: Obey


def answer(world: World, request: Request) -> Reply:
    """Answer a call as AWS does, or as the faults of the moment have it."""
    try:
        asked = _read(request)
    except AwsError as error:
        return _unread(world, request, error)
    fate = world.faults.fate(asked.call)
    if isinstance(fate, Reset):
        return _break(world, asked, "reset")
    if isinstance(fate, Stall):
        late = fate.obeyed == "late"
        then = partial(_obey, world, request, asked, None, "late") if late else None
        return _break(world, asked, "stall")._replace(delay=fate.delay, broken=not late, then=then)
    if isinstance(fate, Stray) and fate.moment == "instead":
        return _break(world, asked, "stray")._replace(previous=True)
    return _told(world, fate, _obey(world, request, asked, fate, _word(fate)))


def _told(world: World, fate: Fate | None, reply: Reply) -> Reply:
    """Return what becomes of the answer to a call that was obeyed."""
    if isinstance(fate, Stray):
        return reply._replace(again=fate.delay)
    if isinstance(fate, Lost):
        return Reply(broken=True)
    if isinstance(fate, Slow):
        shortest = fate.delay if fate.shortest is None else fate.shortest
        return reply._replace(delay=world.faults.between(shortest, fate.delay))
    return reply


def _unread(world: World, request: Request, error: AwsError) -> Reply:
    """Answer what cannot be read; that somebody unknown sent it counts for more."""
    target = request.headers.get("x-amz-target", "")
    service: Service = "sts"
    if target:
        service = "firehose" if target.startswith(FIREHOSE) else "kinesis"
    call = Call(service, target.partition(".")[2])
    try:
        _authenticate(world, request, call)
    except AwsError as first:
        error = first
    world.saw(call, None, 0, error.code)
    return refusal(error, service)


def _word(fate: Fate | None) -> str:
    if isinstance(fate, Lost):
        return "lost"
    return "slow" if isinstance(fate, Slow) else "answered"


def _break(world: World, asked: Asked, word: str) -> Reply:
    world.saw(asked.call, None, asked.records, word)
    return Reply(broken=True)


def _obey(world: World, request: Request, asked: Asked, fate: Fate | None, word: str) -> Reply:
    who: Login | None = None
    try:
        told, who = _authenticate(world, request, asked.call)
        _admit(world, asked.call, told, who, fate)
        reply, values = asked.obey(world, who)
    except AwsError as error:
        world.saw(asked.call, who, asked.records, error.code)
        return refusal(error, asked.call.service)
    world.saw(asked.call, who, asked.records, "")
    world.note(who, asked.call, word, values)
    return reply


def _admit(
    world: World, call: Call, told: signature.Signature, who: Login, fate: Fate | None
) -> None:
    """Refuse what the caller's policy does not allow, and what a fault refuses."""
    if call.service != "sts":
        action = f"{call.service}:{call.action}"
        world.accounts.authorize(who, action, _resource(call, told, who))
    if isinstance(fate, Error):
        raise AwsError(fate.code, fate.message, fate.status)


def _authenticate(world: World, request: Request, call: Call) -> tuple[signature.Signature, Login]:
    """Return who signed; raises AwsError for whom nobody knows, and for what is forged or late."""
    told = signature.read(request)
    who = world.accounts.find(told.key)
    if world.terms.signed:
        if who.token != told.token:
            raise AwsError(UNRECOGNIZED_CLIENT)
        now = world.signing_time() + world.skew(call)
        signature.check(request, told, who.secret, call.service, now)
    if who.expires is not None and world.now() >= who.expires:
        raise AwsError(EXPIRED_TOKEN)
    return told, who


def _resource(call: Call, told: signature.Signature, who: Login) -> str:
    region = told.region
    partition = "aws-cn" if region.startswith("cn-") else "aws"
    partition = "aws-us-gov" if region.startswith("us-gov-") else partition
    kind = "stream" if call.service == "kinesis" else "deliverystream"
    return f"arn:{partition}:{call.service}:{region}:{who.identity.account}:{kind}/{call.stream}"


def _read(request: Request) -> Asked:
    target = request.headers.get("x-amz-target")
    if target is None:
        return _read_sts(request)
    version, _, action = target.partition(".")
    if version == KINESIS and action in {"PutRecord", "PutRecords"}:
        return _read_kinesis(action, request.body)
    if version == KINESIS:
        asked = reads.read(request.body)
        call = Call("kinesis", action, asked.stream_name)
        return Asked(call, 0, lambda w, who: (reads.obey(w, call, asked, who.identity.account), ()))
    if version == FIREHOSE and action in {"PutRecord", "PutRecordBatch"}:
        return _read_firehose(action, request.body)
    raise AwsError(UNKNOWN_OPERATION)


def _read_kinesis(action: str, body: bytes) -> Asked:
    put = kinesis.read(action, body)
    call = Call("kinesis", action, put.stream)
    count = len(put.records)
    return Asked(call, count, lambda w, who: kinesis.put(w, call, put, who.identity.account))


def _read_firehose(action: str, body: bytes) -> Asked:
    put = firehose.read(action, body)
    call = Call("firehose", action, put.stream)
    count = len(put.records)
    return Asked(call, count, lambda w, who: firehose.put(w, call, put, who.identity.account))


def _read_sts(request: Request) -> Asked:
    form = sts.read(request.body)
    call = Call("sts", form.get("Action", ""), role=form.get("RoleArn", ""))
    return Asked(call, 0, lambda w, who: (sts.obey(w, call, form, who), ()))
