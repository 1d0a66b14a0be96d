"""Check a request's signature (SigV4), with the library's own signer run on what was received."""

import hmac
import re
from datetime import UTC, datetime
from hashlib import sha256
from typing import NamedTuple

from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.fake_aws.errors import INCOMPLETE_SIGNATURE, INVALID_SIGNATURE, MISSING_TOKEN, AwsError
from tests.fake_aws.web import Request

WINDOW_SECONDS = 300.0
"""How far a signature's time may be from the service's, either way."""

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=(?P<key>[^/,\s]+)/(?P<day>\d{8})/(?P<region>[^/,\s]+)"
    r"/(?P<service>[^/,\s]+)/aws4_request,\s*SignedHeaders=(?P<headers>[^,\s]+)"
    r",\s*Signature=(?P<signature>[0-9a-f]{64})"
)


class Signature(NamedTuple):
    """What an Authorization header says; ``at`` as it stands in X-Amz-Date."""

    key: str
    region: str
    service: str
    headers: tuple[str, ...]
    signature: str
    at: str
    token: str | None


def read(request: Request) -> Signature:
    """Read a request's signature without judging it; raises AwsError where there is none."""
    header = request.headers.get("authorization")
    if header is None:
        raise AwsError(MISSING_TOKEN)
    found = _AUTHORIZATION.fullmatch(header)
    at = request.headers.get("x-amz-date", "")
    if found is None or found["day"] != at[:8]:
        raise AwsError(INCOMPLETE_SIGNATURE)
    return Signature(
        key=found["key"],
        region=found["region"],
        service=found["service"],
        headers=tuple(found["headers"].split(";")),
        signature=found["signature"],
        at=at,
        token=request.headers.get("x-amz-security-token"),
    )


def check(request: Request, told: Signature, secret: str, service: str, now: float) -> None:
    """Refuse what this secret did not sign, or not at about ``now`` (wall clock, seconds)."""
    _check_time(told.at, now)
    if told.service != service:
        text = f"Credential should be scoped to correct service: '{service}'."
        raise AwsError(INVALID_SIGNATURE, text)
    if "host" not in told.headers or not _is_this(request, told, secret):
        raise AwsError(INVALID_SIGNATURE)


def _is_this(request: Request, told: Signature, secret: str) -> bool:
    claimed = request.headers.get("x-amz-content-sha256")
    if claimed is not None and claimed != sha256(request.body).hexdigest():
        return False
    signed = {name: request.headers.get(name, "") for name in told.headers}
    url = f"http://{request.headers.get('host', '')}{request.target}"
    same = AWSRequest(request.method, url, headers=signed, data=request.body)
    same.context["timestamp"] = told.at
    signer = SigV4Auth(Credentials(told.key, secret), told.service, told.region)
    text = signer.string_to_sign(same, signer.canonical_request(same))
    return hmac.compare_digest(signer.signature(text, same), told.signature)


def _check_time(at: str, now: float) -> None:
    try:
        signed = datetime.strptime(at, SIGV4_TIMESTAMP).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise AwsError(INCOMPLETE_SIGNATURE) from None
    here = _stamp(now)
    if signed < now - WINDOW_SECONDS:
        earliest = _stamp(now - WINDOW_SECONDS)
        text = f"Signature expired: {at} is now earlier than {earliest} ({here} - 5 min.)"
        raise AwsError(INVALID_SIGNATURE, text)
    if signed > now + WINDOW_SECONDS:
        latest = _stamp(now + WINDOW_SECONDS)
        text = f"Signature not yet current: {at} is still later than {latest} ({here} + 5 min.)"
        raise AwsError(INVALID_SIGNATURE, text)


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(SIGV4_TIMESTAMP)
