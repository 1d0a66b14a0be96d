"""STS: AssumeRole and GetCallerIdentity, in the query protocol."""

import re
from datetime import UTC, datetime
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from tests.fake_aws.accounts import Login, Role
from tests.fake_aws.errors import (
    ACCESS_DENIED,
    STS,
    UNKNOWN_OPERATION,
    VALIDATION,
    AwsError,
    invalid,
)
from tests.fake_aws.faults import Call
from tests.fake_aws.policy import allows, trust, trusts
from tests.fake_aws.web import XML, Reply
from tests.fake_aws.world import World

SHORTEST, LONGEST = 900, 43_200
CHAINED = 3600
"""AWS limits of DurationSeconds; the last where a role assumes a role."""

_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)

Form = dict[str, str]


def read(body: bytes) -> Form:
    """Read the parameters of a call."""
    return dict(parse_qsl(body.decode(), keep_blank_values=True))


def obey(world: World, call: Call, form: Form, who: Login) -> Reply:
    """Answer a call; raises AwsError."""
    if call.action == "GetCallerIdentity":
        return _identity(who)
    if call.action == "AssumeRole":
        return _assume(world, call, form, who)
    raise AwsError(UNKNOWN_OPERATION, f"Could not find operation {call.action}")


def _identity(who: Login) -> Reply:
    account = who.identity.account
    user = f"<UserId>{escape(who.key)}</UserId><Account>{account}</Account>"
    return _told("GetCallerIdentity", f"<Arn>{escape(who.arn)}</Arn>{user}")


def _assume(world: World, call: Call, form: Form, who: Login) -> Reply:
    name, external_id = form.get("RoleSessionName", ""), form.get("ExternalId")
    if not _NAME.fullmatch(name):
        raise invalid(name, "roleSessionName", "satisfy regular expression pattern: [\\w+=,.@-]*")
    if external_id is not None and not _EXTERNAL_ID.fullmatch(external_id):
        pattern = "satisfy regular expression pattern: [\\w+=,.@:\\/-]*"
        raise invalid(external_id, "externalId", pattern)
    role = world.accounts.roles.get(call.role)
    seconds = _seconds(form, role, who)
    if role is None or not _may(world, call, role, external_id, who):
        text = f"User: {who.arn} is not authorized to perform: sts:AssumeRole on resource: "
        raise AwsError(ACCESS_DENIED, text + call.role)
    lasting = world.lifetime(call, seconds)
    given = world.accounts.make_session(who, role, name, world.now(), lasting)
    return _told("AssumeRole", _credentials(given))


def _may(world: World, call: Call, role: Role, external_id: str | None, who: Login) -> bool:
    """Tell whether the role trusts the caller, and the caller may become anybody."""
    document = role.trust
    wanted = world.external_id(call)
    if wanted is not None:
        document = trust("*", wanted)
    trusted = trusts(document, who.meanings, external_id)
    return trusted and allows(who.identity.policy, "sts:AssumeRole", role.arn)


def _seconds(form: Form, role: Role | None, who: Login) -> int:
    text = form.get("DurationSeconds", str(CHAINED))
    seconds = int(text) if text.isdigit() else 0
    if seconds < SHORTEST:
        raise invalid(text, "durationSeconds", f"have value greater than or equal to {SHORTEST}")
    if seconds > LONGEST:
        raise invalid(text, "durationSeconds", f"have value less than or equal to {LONGEST}")
    if who.token is not None and seconds > CHAINED:
        what = "1 hour session limit for roles assumed by role chaining"
        raise AwsError(VALIDATION, f"The requested DurationSeconds exceeds the {what}")
    if role is not None and seconds > role.longest:
        what = "MaxSessionDuration set for this role."
        raise AwsError(VALIDATION, f"The requested DurationSeconds exceeds the {what}")
    return seconds


def _credentials(given: Login) -> str:
    assert given.expires is not None
    until = datetime.fromtimestamp(given.expires, UTC).isoformat(timespec="milliseconds")
    return (
        f"<Credentials><AccessKeyId>{given.key}</AccessKeyId>"
        f"<SecretAccessKey>{given.secret}</SecretAccessKey>"
        f"<SessionToken>{given.token}</SessionToken>"
        f"<Expiration>{until.replace('+00:00', 'Z')}</Expiration></Credentials>"
        f"<AssumedRoleUser><AssumedRoleId>AROA:{given.key}</AssumedRoleId>"
        f"<Arn>{escape(given.arn)}</Arn></AssumedRoleUser>"
    )


def _told(action: str, content: str) -> Reply:
    text = (
        f'<{action}Response xmlns="{STS}"><{action}Result>{content}</{action}Result>'
        "<ResponseMetadata><RequestId>00000000-0000-0000-0000-000000000000</RequestId>"
        f"</ResponseMetadata></{action}Response>"
    )
    return Reply(200, text.encode(), XML)
