"""Who calls: the app or the input that a request's credentials are good for.

First by the head alone, so that most of what is refused costs no body; a signature is verified once
the body is there. Nothing here tells more than that credentials are wrong, or logs any of them.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

import msgspec

from forwarder.config.gateway import App, AppAuth, EventsApi, EventsApiInput, PinpointApi
from forwarder.gateway import sigv4_check
from forwarder.gateway.contract import ApiError
from forwarder.gateway.http_head import RequestHead
from forwarder.gateway.sigv4_check import SignatureCheck, SignatureClaim

_UNSIGNED = ("UNSIGNED-PAYLOAD", "STREAMING-")


class Admission(msgspec.Struct, frozen=True, gc=False):
    """What a head proves. Made by ``Authenticator.admit``, given back once the body is there.

    ``claim``: the signature that is still to be verified, None: ``caller`` and ``apps`` are proved
    already. ``app``: the app that the path names, None where it names none.
    """

    caller: App | EventsApiInput | None
    apps: Sequence[App] = ()
    claim: SignatureClaim | None = None
    app: App | None = None


class Authenticator:
    """Finds callers by their credentials. One for a gateway."""

    def __init__(self, pinpoint: PinpointApi | None, events: EventsApi | None) -> None:
        """Create for the apps and the inputs of the configuration."""
        apps = pinpoint.apps if pinpoint else ()
        self._open = tuple(app for app in apps if app.auth is AppAuth.NONE)
        self._secrets: dict[str, dict[str, list[App]]] = {}
        self._api_keys: dict[bytes, list[App]] = {}
        for app in apps:
            if app.auth is AppAuth.SIGV4:
                for key in app.keys:
                    known = self._secrets.setdefault(key.access_key_id, {})
                    known.setdefault(key.secret_access_key, []).append(app)
            elif app.auth is AppAuth.API_KEY:
                for api_key in app.api_keys:
                    self._api_keys.setdefault(_digest(api_key), []).append(app)
        self._inputs = {one.api_key: one for one in (events.inputs if events else ())}
        self._check = SignatureCheck(pinpoint.substitute_hosts if pinpoint else ())

    def admit(self, app: App, head: RequestHead, now_ms: int) -> Admission:
        """Return what a head proves of a caller of this app; raises ApiError: nothing."""
        if app.auth is AppAuth.NONE:
            return Admission(app)
        if app.auth is AppAuth.API_KEY:
            if app not in self._apps_of_api_key(head):
                raise ApiError(403, "", "Forbidden: x-api-key, or Basic's user, has to be its key")
            return Admission(app)
        return Admission(app, claim=self._known_claim(head, now_ms), app=app)

    def admit_to_list(self, head: RequestHead, now_ms: int) -> Admission:
        """Return what a head proves where no app is named; raises ApiError: nothing at all."""
        if found := self._apps_of_api_key(head):
            return Admission(None, [*found, *self._open])
        try:
            claim = self._known_claim(head, now_ms)
        except ApiError:
            if self._open:
                return Admission(None, self._open)
            raise
        return Admission(None, claim=claim)

    def admit_input(self, head: RequestHead) -> Admission:
        """Return the input of mParticle's API whose credentials these are; raises ApiError."""
        given = _basic(head)
        if given is None:
            challenge = {"WWW-Authenticate": 'Basic realm="events", charset="UTF-8"'}
            raise ApiError(401, "Unauthorized", "send api_key:api_secret as Basic", challenge)
        user, password = given
        known = self._inputs.get(user)
        secret = known.api_secret if known else ""
        if not hmac.compare_digest(_digest(password), _digest(secret)) or known is None:
            raise ApiError(403, "Forbidden", "no input has these credentials")
        return Admission(known)

    def prove(self, admission: Admission, head: RequestHead, body: bytes) -> Admission:
        """Verify the signature of a request whose body is there, as it came; raises ApiError."""
        claim = admission.claim
        if claim is None:
            return admission
        known = self._secrets[claim.key_id]
        secret = self._check.matches(claim, head, body, tuple(known))
        if secret is None:
            if admission.app is None and self._open:
                return Admission(None, self._open)
            raise ApiError(
                403,
                "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret Access Key and signing method. Consult the service "
                "documentation for details.",
            )
        if admission.app is None:
            return Admission(None, [*known[secret], *self._open])
        if admission.app not in known[secret]:
            raise ApiError(403, "", "Forbidden: these keys are none of this app's")
        return Admission(admission.app)

    def _known_claim(self, head: RequestHead, now_ms: int) -> SignatureClaim:
        """Return the signature of a request, if it says to be made with a key that is known."""
        claim = sigv4_check.read_claim(head, now_ms)
        if claim.key_id not in self._secrets:
            raise ApiError(
                403,
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            )
        if (head.header.get("x-amz-content-sha256") or "").startswith(_UNSIGNED):
            raise ApiError(
                403, "InvalidSignatureException", "the body has to be signed, and in one piece"
            )
        return claim

    def _apps_of_api_key(self, head: RequestHead) -> Sequence[App]:
        key = head.header.get("x-api-key")
        if key is None:
            given = _basic(head)
            if given is None:
                return ()
            key = given[0]
        # Found by its digest, so that how long it takes tells nothing of the keys there are.
        return self._api_keys.get(_digest(key), ())


def _basic(head: RequestHead) -> tuple[str, str] | None:
    """Return user and password of Basic authentication (RFC 7617); None: there is none."""
    scheme, _, encoded = head.header.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    user, colon, password = text.partition(":")
    return (user, password) if colon else None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()
