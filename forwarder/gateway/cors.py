"""What browsers ask before they send, and what they want to read of an answer.

Of Pinpoint's API alone: mParticle's has one secret for all who send, which no page may hold.
"""

from collections.abc import Mapping, Sequence

from forwarder.config.gateway import App
from forwarder.gateway.contract import ApiReply

ANY = "*"
REQUEST_HEADERS = (
    "authorization, content-type, content-encoding, x-amz-date, x-amz-security-token, "
    "x-amz-user-agent, x-amz-content-sha256, x-api-key, amz-sdk-invocation-id, amz-sdk-request"
)
"""What Amplify and the AWS SDK for JavaScript send, and where an API key stands."""

ANSWER_HEADERS = "date, x-amzn-errortype, x-amzn-requestid, retry-after"
"""What they read: the date sets their clock."""

PREFLIGHT_SECONDS = 7_200
"""How long a browser may remember a preflight; the longest that Chrome does."""

_NONE: Mapping[str, str] = {}


def answer_headers(app: App, origin: str | None) -> Mapping[str, str]:
    """Return what is added to an answer to a page of this origin; of one not allowed nothing."""
    if origin is None or not app.origins:
        return _NONE
    allowed = ANY if ANY in app.origins else origin if origin in app.origins else ""
    if not allowed:
        return {"Vary": "Origin"}
    return {
        "Access-Control-Allow-Origin": allowed,
        "Access-Control-Expose-Headers": ANSWER_HEADERS,
        "Vary": "Origin",
    }


def preflight(app: App, origin: str | None, methods: Sequence[str]) -> ApiReply | None:
    """Answer a preflight for a path that has these methods; None: the origin is not allowed."""
    headers = answer_headers(app, origin)
    if "Access-Control-Allow-Origin" not in headers:
        return None
    return ApiReply(
        204,
        headers={
            **headers,
            "Access-Control-Allow-Methods": ", ".join(methods),
            "Access-Control-Allow-Headers": REQUEST_HEADERS,
            "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
            "Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
        },
    )
