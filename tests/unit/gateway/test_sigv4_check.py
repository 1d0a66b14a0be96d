"""Signatures of AWS's own signers are right, whatever they sign, and no byte of it can change."""

import datetime as dt
import hashlib
import io
from collections.abc import Mapping
from unittest import mock
from urllib.parse import quote

import pytest
from botocore import auth as botocore_auth
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from forwarder.gateway.contract import ApiError
from forwarder.gateway.http_head import RequestHead
from forwarder.gateway.sigv4_check import (
    MAX_SIGNING_KEYS,
    SignatureCheck,
    canonical_path,
    read_claim,
)

NOW = dt.datetime(2026, 11, 30, 12, 0, 0, tzinfo=dt.UTC)
NOW_MS = round(NOW.timestamp() * 1000)
KEY_ID, SECRET, HOST = "AKIAEXAMPLE00000001", "not/a+secret", "gateway.example:8080"


def head_of(
    method: str,
    target: str,
    headers: Mapping[str, str],
    extra: list[tuple[bytes, bytes]] | None = None,
) -> RequestHead:
    path, _, query = target.partition("?")
    fields = [(k.encode(), v.encode()) for k, v in headers.items()] + (extra or [])
    found = CIMultiDict((k.decode(), v.decode("latin-1")) for k, v in fields)
    return RequestHead(method, path, query, found, fields, None, NOW_MS)


def signed(  # noqa: PLR0913  # what a request has
    method: str,
    target: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    region: str = "us-east-1",
    service: str = "mobiletargeting",
    token: str | None = None,
    presigned: int | None = None,
    host: str = HOST,
    at: dt.datetime = NOW,
) -> RequestHead:
    """Return a request as botocore signs it, and as it comes."""
    data = io.BytesIO(body) if presigned is None else b""
    request = AWSRequest(method, f"http://{host}{target}", dict(headers or {}), data)
    request.headers["Host"] = host
    request.context["payload_signing_enabled"] = True
    credentials = Credentials(KEY_ID, SECRET, token)
    made = (
        SigV4Auth(credentials, service, region)
        if presigned is None
        else BodySigner(body, credentials, service, region, expires=presigned)
    )
    with mock.patch.object(
        botocore_auth, "get_current_datetime", return_value=at.replace(tzinfo=None)
    ):
        made.add_auth(request)
    sent = request.url.split(host, 1)[1]
    return head_of(method, sent, dict(request.headers.items()))


def verified(
    head: RequestHead, body: bytes = b"", check: SignatureCheck | None = None, now_ms: int = NOW_MS
) -> bool:
    try:
        claim = read_claim(head, now_ms)
    except ApiError:
        return False
    secrets = [SECRET] if claim.key_id == KEY_ID else []
    return (check or SignatureCheck()).matches(claim, head, body, secrets) == SECRET


class BodySigner(SigV4QueryAuth):  # type: ignore[misc]  # the library has no types
    """Presigns a request with a body, as Amplify does for its beacons."""

    def __init__(self, body: bytes, *given: object, **named: object) -> None:
        super().__init__(*given, **named)
        self.body = body

    def payload(self, _: object) -> str:
        return hashlib.sha256(self.body).hexdigest()


PARTS = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1
).filter(lambda part: part not in {".", ".."})
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)
NAMES = st.sampled_from(
    ["content-type", "amz-sdk-invocation-id", "amz-sdk-request", "x-amz-user-agent", "x-custom"]
)


@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE"]),
    parts=st.lists(PARTS, min_size=1, max_size=4),
    query=st.lists(st.tuples(PARTS, VALUES), max_size=4),
    headers=st.dictionaries(NAMES, VALUES),
    body=st.binary(max_size=200),
    token=st.none() | st.text("abcXYZ+/=", min_size=1),
    region=st.sampled_from(["us-east-1", "eu-central-1", "us-gov-west-1"]),
)
def test_whatever_botocore_signs_is_right(  # noqa: PLR0913, PLR0917  # what a request has
    method: str,
    parts: list[str],
    query: list[tuple[str, str]],
    headers: dict[str, str],
    body: bytes,
    token: str | None,
    region: str,
) -> None:
    target = "/" + "/".join(quote(part, safe="") for part in parts)
    pairs = [f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in query]
    target += f"?{'&'.join(pairs)}" if pairs else ""
    head = signed(method, target, body, headers, token=token, region=region)
    assert verified(head, body)


BODY = b'{"BatchItem":{}}'


def example() -> RequestHead:
    headers = {"content-type": "application/json", "amz-sdk-request": "attempt=1"}
    return signed("POST", "/v1/apps/a1/endpoints/e%2F1?b=2&a=%20x", BODY, headers, token="t0k+en=")


@settings(max_examples=1_000)
@given(st.data())
def test_no_byte_of_what_was_signed_can_change(data: st.DataObject) -> None:
    head = example()
    assert verified(head, BODY)
    where = data.draw(st.sampled_from(["body", "method", "path", "query", "header"]))
    changed = data.draw(st.integers(1, 255))

    def mutated(before: bytes) -> bytes:
        at = data.draw(st.integers(0, len(before) - 1))
        return before[:at] + bytes([before[at] ^ changed]) + before[at + 1 :]

    if where == "body":
        assert not verified(head, mutated(BODY))
        return
    if where in {"method", "path", "query"}:
        parts = {"method": head.method, "path": head.path, "query": head.query}
        before = parts[where]
        parts[where] = mutated(before.encode()).decode("latin-1")
        other = head_of(parts["method"], f"{parts['path']}?{parts['query']}", dict(head.header))
        # Of a query the order is nothing, as whoever signs it has it.
        assert sorted(other.query.split("&")) == sorted(head.query.split("&")) or not verified(
            other, BODY
        )
        assert where == "query" or not verified(other, BODY)
        return
    fields = list(head.fields)
    index = data.draw(st.integers(0, len(fields) - 1))
    name, value = fields[index]
    after_value = mutated(value)
    if name.lower() == b"user-agent" or after_value.split() == value.split():
        return
    fields[index] = (name, after_value)
    lookup = CIMultiDict((k.decode(), v.decode("latin-1")) for k, v in fields)
    other = RequestHead(head.method, head.path, head.query, lookup, fields, None, NOW_MS)
    assert not verified(other, BODY)


@pytest.mark.parametrize("removed", ["host", "x-amz-date", "content-type", "x-amz-security-token"])
def test_no_signed_header_can_be_left_out_or_doubled(removed: str) -> None:
    head = example()
    left = {k: v for k, v in head.header.items() if k.lower() != removed}
    assert not verified(head_of("POST", f"{head.path}?{head.query}", left), BODY)
    extra = [(removed.encode(), b"more")]
    doubled = head_of("POST", f"{head.path}?{head.query}", dict(head.header), extra)
    assert not verified(doubled, BODY)


def test_headers_that_nobody_signed_may_change() -> None:
    head = example()
    more = {**head.header, "X-Forwarded-For": "10.0.0.1", "User-Agent": "other"}
    assert verified(head_of("POST", f"{head.path}?{head.query}", more), BODY)


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("/v1/apps/a1/events", "/v1/apps/a1/events"),
        ("/v1/apps/a%20b", "/v1/apps/a%2520b"),
        ("/v1/apps/a%252Fb", "/v1/apps/a%25252Fb"),
        ("/v1//apps", "/v1/apps"),
        ("/v1/apps/../b/", "/v1/b/"),
        ("/v1/./apps/.", "/v1/apps"),
        ("/..", "/"),
        ("/v1/a.b/.c", "/v1/a.b/.c"),
        ("/~a!", "/~a%21"),
    ],
)
def test_the_path_is_normalised_and_encoded_once_more(path: str, canonical: str) -> None:
    assert canonical == canonical_path(path)


@pytest.mark.parametrize(
    ("seconds", "right"), [(-301, False), (-299, True), (300, True), (302, False)]
)
def test_a_clock_may_be_off_by_five_minutes(seconds: int, *, right: bool) -> None:
    head = signed("GET", "/v1/apps", at=NOW + dt.timedelta(seconds=seconds))
    assert right == verified(head)


def test_a_wrong_clock_is_told_as_sdks_know_it() -> None:
    head = signed("GET", "/v1/apps", at=NOW - dt.timedelta(minutes=6))
    with pytest.raises(ApiError, match="Signature expired: 20261130T115400Z") as told:
        read_claim(head, NOW_MS)
    assert (403, "InvalidSignatureException") == (told.value.status, told.value.code)


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-3"])
def test_a_presigned_query_is_right_until_it_expires(region: str) -> None:
    target = "/v1/apps/a1/events/legacy"
    head = signed("POST", target, BODY, presigned=900, region=region, token="t0k+en/=")
    for seconds, right in ((0, True), (899, True), (901, False), (-200, True), (-400, False)):
        assert right == verified(head, BODY, now_ms=NOW_MS + seconds * 1000)
    assert not verified(head, BODY + b" ")


def test_a_presigned_query_without_expiry_is_good_for_as_long_as_a_header() -> None:
    """Amplify's beacons have none."""
    head = signed("POST", "/v1/apps/a1/events/legacy", BODY, presigned=900)
    query = "&".join(one for one in head.query.split("&") if not one.startswith("X-Amz-Expires"))
    bare = head_of("POST", f"{head.path}?{query}", dict(head.header))
    claim = read_claim(bare, NOW_MS)
    assert claim.key_id == KEY_ID
    with pytest.raises(ApiError, match="expired"):
        read_claim(bare, NOW_MS + 301_000)


@pytest.mark.parametrize(
    "change",
    [
        lambda q: q.replace("X-Amz-Expires=900", "X-Amz-Expires=604801"),
        lambda q: q.replace("X-Amz-Expires=900", "X-Amz-Expires=-1"),
        lambda q: q.replace("X-Amz-Expires=900", "X-Amz-Expires=9e9"),
        lambda q: q.replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
        lambda q: q + "&X-Amz-Signature=" + "0" * 64,
        lambda q: q + "&X-Amz-Expires=900",
        lambda q: q.replace("mobiletargeting", "s3"),
        lambda q: q.replace("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=date"),
        lambda q: q.replace("X-Amz-Date", "X-Amz-Data"),
    ],
)
def test_a_query_that_is_not_well_formed_is_none(change: "object") -> None:
    head = signed("POST", "/v1/apps/a1/events/legacy", BODY, presigned=900)
    assert verified(head, BODY)
    query = change(head.query)  # type: ignore[operator]
    assert query != head.query
    assert not verified(head_of("POST", f"{head.path}?{query}", dict(head.header)), BODY)


@pytest.mark.parametrize("service", ["pinpoint", "s3", "kinesis"])
def test_a_signature_for_another_service_is_none(service: str) -> None:
    assert not verified(signed("GET", "/v1/apps", service=service))


def claimed(day: str, signed_headers: str) -> str:
    scope = f"{KEY_ID}/{day}/r/mobiletargeting/aws4_request"
    zeros = "0" * 64
    return f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={signed_headers}, Signature={zeros}"


@pytest.mark.parametrize(
    "authorization",
    [
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=a/20261130/r/mobiletargeting/aws4_request",
        "Basic YTpi",
        "Bearer x",
        "",
        "AWS4-HMAC-SHA256 Credential=" + "a" * 10_000,
        "AWS4-HMAC-SHA256 Credential=//////, SignedHeaders=;;;, Signature=",
        claimed("20261130", "x-amz-date"),
        claimed("20261130", "host;host"),
        claimed("20261129", "host"),
    ],
)
def test_what_is_not_well_formed_is_told_so(authorization: str) -> None:
    headers = {"Host": HOST, "X-Amz-Date": "20261130T120000Z", "Authorization": authorization}
    with pytest.raises(ApiError) as told:
        read_claim(head_of("GET", "/v1/apps", headers), NOW_MS)
    assert (403, "IncompleteSignatureException") == (told.value.status, told.value.code)


def test_without_any_signature_a_token_is_missing() -> None:
    with pytest.raises(ApiError, match="Missing Authentication Token") as told:
        read_claim(head_of("GET", "/v1/apps", {"Host": HOST}), NOW_MS)
    assert "MissingAuthenticationTokenException" == told.value.code


def test_a_client_that_was_redirected_may_have_signed_for_the_host_it_was_made_for() -> None:
    original = "pinpoint.us-east-1.amazonaws.com"
    head = signed("POST", "/v1/apps/a1/events", BODY, host=original)
    fields = {**head.header, "Host": HOST, "host": HOST}
    fields.pop("Host")
    redirected = head_of("POST", head.path, fields)
    assert not verified(redirected, BODY)
    assert verified(redirected, BODY, SignatureCheck([original]))
    assert not verified(redirected, BODY + b" ", SignatureCheck([original]))
    assert not verified(redirected, BODY, SignatureCheck(["pinpoint.eu-west-1.amazonaws.com"]))


def test_whose_secret_is_another_has_not_signed() -> None:
    head = signed("GET", "/v1/apps")
    claim = read_claim(head, NOW_MS)
    check = SignatureCheck()
    assert check.matches(claim, head, b"", ["another"]) is None
    assert SECRET == check.matches(claim, head, b"", ["another", SECRET])


def test_keys_of_wrong_signatures_are_not_kept_and_of_right_ones_only_so_many() -> None:
    check = SignatureCheck()
    for number in range(MAX_SIGNING_KEYS + 10):
        head = signed("GET", "/v1/apps", region=f"r-{number}")
        claim = read_claim(head, NOW_MS)
        assert check.matches(claim, head, b"x", [SECRET]) is None
        assert check.kept() == 0 if number == 0 else True
    for number in range(MAX_SIGNING_KEYS + 10):
        head = signed("GET", "/v1/apps", region=f"r-{number}")
        assert verified(head, check=check)
    assert MAX_SIGNING_KEYS == check.kept()
