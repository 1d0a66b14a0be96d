"""AWS's signature version 4 verified: what was signed is put together as the request came.

https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html, of any service but S3:
the path is encoded once more, and the payload is always hashed. Whose key signed decides nothing
here: a caller is whoever's secret gives the signature that came.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from urllib.parse import quote, unquote

import msgspec

from forwarder.gateway.contract import ApiError
from forwarder.gateway.http_head import RequestHead

ALGORITHM = "AWS4-HMAC-SHA256"
SERVICE = "mobiletargeting"
"""The name that Pinpoint has in signatures (its service model, ``signingName``)."""

INCOMPLETE = "IncompleteSignatureException"

CLOCK_SKEW_SECONDS = 300
"""How far the clock of whoever signs may be off, as AWS has it."""

MAX_EXPIRES_SECONDS = 604_800
"""The longest that a presigned query may be good for, as AWS has it."""

MAX_SIGNED_HEADERS = 64
MAX_SIGNING_KEYS = 1_024
"""Derived keys that are kept: one for each key pair, day and region that signed lately."""

_HEADER = re.compile(
    rf"{ALGORITHM} +Credential=([^/\s,]+)/(\d{{8}})/([A-Za-z0-9-]+)/([A-Za-z0-9-]+)/aws4_request,"
    r" *SignedHeaders=([^\s,=]+), *Signature=([0-9a-f]{64})"
)
_SCOPE = re.compile(r"([^/\s,]+)/(\d{8})/([A-Za-z0-9-]+)/([A-Za-z0-9-]+)/aws4_request")
_TIME = re.compile(r"(\d{8})T([01]\d|2[0-3])([0-5]\d)([0-5]\d)Z", re.ASCII)
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_SIGNED = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+(?:;[!#$%&'*+.^_`|~0-9a-z-]+)*")
_PRESIGNED = frozenset(
    {"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Signature"}
)
SIGNATURE_QUERY = _PRESIGNED | {"X-Amz-Expires", "X-Amz-Security-Token"}
"""What a presigned query adds to one."""


class SignatureClaim(msgspec.Struct, frozen=True, gc=False):
    """What a request says about its signature; nothing of it is proved.

    ``region`` and ``day`` are of the scope, ``time`` is its ``X-Amz-Date``. ``canonical``: what was
    signed up to the headers (method, path, query).
    """

    key_id: str
    day: str
    region: str
    time: str
    signed: str
    signature: str
    canonical: str


def read_claim(head: RequestHead, now_ms: int) -> SignatureClaim:
    """Return what a request claims; raises ApiError if it is unsigned, stale or not well-formed."""
    authorization = head.header.get("Authorization")
    if authorization is not None:
        claim, expires = _of_header(head, authorization), None
    elif "X-Amz-Signature=" in head.query:
        claim, expires = _of_query(head)
    else:
        raise ApiError(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
    _check_time(claim, expires, now_ms)
    return claim


def _of_header(head: RequestHead, authorization: str) -> SignatureClaim:
    found = _HEADER.fullmatch(authorization)
    if found is None:
        raise ApiError(
            403,
            INCOMPLETE,
            f"Authorization has to be '{ALGORITHM} Credential=…/mobiletargeting/aws4_request, "
            "SignedHeaders=…, Signature=…'",
        )
    if "X-Amz-Signature=" in head.query:
        raise ApiError(
            403, INCOMPLETE, "a request is signed in its header or in its query, not in both"
        )
    key_id, day, region, service, signed, signature = found.groups()
    time = head.header.get("X-Amz-Date")
    if time is None:
        raise ApiError(403, INCOMPLETE, "the header X-Amz-Date is missing")
    _check_scope(service, signed)
    canonical = f"{head.method}\n{canonical_path(head.path)}\n{canonical_query(head.query)}\n"
    return SignatureClaim(key_id, day, region, time, signed, signature, canonical)


def _of_query(head: RequestHead) -> tuple[SignatureClaim, int | None]:
    """Return what a presigned query claims, and the seconds that it is good for, if it says so."""
    pairs = [pair.partition("=") for pair in head.query.split("&")]
    given: dict[str, str] = {}
    for name, _, value in pairs:
        if name in given:
            raise ApiError(403, INCOMPLETE, f"{name} stands more than once in the query")
        if name in SIGNATURE_QUERY:
            given[name] = value
    if missing := sorted(_PRESIGNED - given.keys()):
        raise ApiError(403, INCOMPLETE, f"the query lacks {', '.join(missing)}")
    scope = _SCOPE.fullmatch(unquote(given["X-Amz-Credential"]))
    signature = given["X-Amz-Signature"]
    if (
        scope is None
        or given["X-Amz-Algorithm"] != ALGORITHM
        or not _SIGNATURE.fullmatch(signature)
    ):
        raise ApiError(
            403, INCOMPLETE, "algorithm, credential or signature of the query are not well-formed"
        )
    expires = given.get("X-Amz-Expires")
    if expires is not None and not (
        expires.isascii() and expires.isdigit() and 0 < int(expires[:9]) <= MAX_EXPIRES_SECONDS
    ):
        raise ApiError(
            403, INCOMPLETE, f"X-Amz-Expires has to be 1 to {MAX_EXPIRES_SECONDS} seconds"
        )
    key_id, day, region, service = scope.groups()
    signed = unquote(given["X-Amz-SignedHeaders"])
    _check_scope(service, signed)
    rest = "&".join("".join(pair) for pair in pairs if pair[0] != "X-Amz-Signature")
    canonical = f"{head.method}\n{canonical_path(head.path)}\n{canonical_query(rest)}\n"
    time = unquote(given["X-Amz-Date"])
    claim = SignatureClaim(key_id, day, region, time, signed, signature, canonical)
    return claim, int(expires) if expires else None


def _check_scope(service: str, signed: str) -> None:
    if service != SERVICE:
        raise ApiError(
            403,
            "InvalidSignatureException",
            f"Credential should be scoped to correct service: '{SERVICE}'.",
        )
    names = signed.split(";")
    if not _SIGNED.fullmatch(signed) or len(set(names)) != len(names) > 0 or "host" not in names:
        raise ApiError(
            403, INCOMPLETE, "SignedHeaders has to name each signed header once, host among them"
        )
    if len(names) > MAX_SIGNED_HEADERS:
        raise ApiError(
            403, INCOMPLETE, f"SignedHeaders names more than {MAX_SIGNED_HEADERS} headers"
        )


def _check_time(claim: SignatureClaim, expires: int | None, now_ms: int) -> None:
    found = _TIME.fullmatch(claim.time)
    day = _day_seconds(found[1]) if found else None
    if found is None or day is None or found[1] != claim.day:
        raise ApiError(
            403, INCOMPLETE, "X-Amz-Date has to be YYYYMMDDTHHMMSSZ, of the day in Credential"
        )
    at = day + 3600 * int(found[2]) + 60 * int(found[3]) + int(found[4])
    now = now_ms // 1000
    last = at + (CLOCK_SKEW_SECONDS if expires is None else expires)
    if now > last or now < at - CLOCK_SKEW_SECONDS:
        # SDKs know a wrong clock by this name and by this text, and set it by the header Date.
        what = "Signature expired" if now > last else "Signature not yet current"
        raise ApiError(
            403,
            "InvalidSignatureException",
            f"{what}: {claim.time} is more than the {CLOCK_SKEW_SECONDS // 60} min. that clocks "
            "may differ by, or than the query is good for, from the time in the header Date.",
        )


@lru_cache(maxsize=64)
def _day_seconds(day: str) -> int | None:
    """Return the Unix time at which a day (YYYYMMDD) begins, None if there is no such day."""
    try:
        ordinal = date(int(day[:4]), int(day[4:6]), int(day[6:])).toordinal()
    except ValueError:
        return None
    return (ordinal - date(1970, 1, 1).toordinal()) * 86_400


def canonical_path(path: str) -> str:
    """Return a path as it is signed: normalised, and what is encoded in it encoded once more."""
    if "//" in path or "/." in path:
        parts: list[str] = []
        for part in path.split("/"):
            if part == "..":
                del parts[-1:]
            elif part and part != ".":
                parts.append(part)
        end = "/" if parts and path.endswith("/") else ""
        path = f"/{'/'.join(parts)}{end}"
    return quote(path, safe="/~")


def canonical_query(query: str) -> str:
    """Return a query as it is signed: what is not encoded yet encoded, and sorted."""
    if not query:
        return ""
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    encoded = sorted((quote(k, safe="-_.~%"), quote(v, safe="-_.~%")) for k, _, v in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


class SignatureCheck:
    """Tells whether a secret gives a request's signature. One for a gateway."""

    def __init__(self, substitute_hosts: Sequence[str] = ()) -> None:
        """Create; ``substitute_hosts`` are those that clients may have signed for instead."""
        self._hosts = [host.encode() for host in substitute_hosts]
        self._keys: dict[tuple[str, str, str, str], bytes] = {}

    def matches(
        self, claim: SignatureClaim, head: RequestHead, body: bytes, secrets: Sequence[str]
    ) -> str | None:
        """Return the secret that the request is signed with, None if none of these is it.

        ``body``: as it came, compressed if it is. Every comparison takes the same time.
        """
        payload = hashlib.sha256(body).hexdigest()
        scope = f"{claim.day}/{claim.region}/{SERVICE}/aws4_request"
        before = f"{ALGORITHM}\n{claim.time}\n{scope}\n"
        for headers in self._canonical_headers(claim, head):
            canonical = b"%b%b\n%b\n%b" % (
                claim.canonical.encode(),
                headers,
                claim.signed.encode(),
                payload.encode(),
            )
            asked = (before + hashlib.sha256(canonical).hexdigest()).encode()
            for secret in secrets:
                key = self._signing_key(secret, claim)
                if hmac.compare_digest(hmac.digest(key, asked, "sha256").hex(), claim.signature):
                    self._remember(secret, claim, key)
                    return secret
        return None

    def kept(self) -> int:
        """Return how many derived keys are kept."""
        return len(self._keys)

    def _canonical_headers(self, claim: SignatureClaim, head: RequestHead) -> list[bytes]:
        """Return the signed headers, as received and for each substitute host; [] if one lacks."""
        names = claim.signed.encode().split(b";")
        values: dict[bytes, bytes] = {}
        wanted = set(names)
        for name, value in head.fields:
            if (lower := name.lower()) in wanted:
                trimmed = b" ".join(value.split())
                values[lower] = b"%b,%b" % (values[lower], trimmed) if lower in values else trimmed
        if len(values) != len(names):
            return []
        found = [b"".join([b"%b:%b\n" % (name, values[name]) for name in names])]
        for host in self._hosts:
            values[b"host"] = host
            found.append(b"".join([b"%b:%b\n" % (name, values[name]) for name in names]))
        return found

    def _signing_key(self, secret: str, claim: SignatureClaim) -> bytes:
        known = self._keys.get((claim.key_id, secret, claim.day, claim.region))
        if known is not None:
            return known
        key = f"AWS4{secret}".encode()
        for part in (claim.day, claim.region, SERVICE, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return key

    def _remember(self, secret: str, claim: SignatureClaim, key: bytes) -> None:
        """Keep the key of a signature that was right: others would fill the memory with theirs."""
        if len(self._keys) >= MAX_SIGNING_KEYS:
            del self._keys[next(iter(self._keys))]
        self._keys.setdefault((claim.key_id, secret, claim.day, claim.region), key)
