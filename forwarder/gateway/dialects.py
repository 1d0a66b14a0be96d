"""How each API says that something is wrong."""

import orjson

from forwarder.gateway.contract import ApiError, ApiReply
from forwarder.gateway.routes import Api

PINPOINT_CODES = {
    400: "BadRequestException",
    403: "ForbiddenException",
    404: "NotFoundException",
    405: "MethodNotAllowedException",
    408: "BadRequestException",
    413: "PayloadTooLargeException",
    429: "TooManyRequestsException",
    431: "BadRequestException",
    500: "InternalServerErrorException",
    503: "InternalServerErrorException",
}
"""The errors of Pinpoint's service model by HTTP's status; it has no others."""

RETRY_AFTER_SECONDS = 1
"""When whoever was refused for want of room may come again; clients back off by themselves."""


def error_reply(api: Api, error: ApiError, request_id: str) -> ApiReply:
    """Return the answer that tells a client of an API about an error."""
    headers = dict(error.headers)
    if error.status == 429:  # noqa: PLR2004  # Too Many Requests
        headers.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
    if api is Api.MPARTICLE:
        code = error.code or PINPOINT_CODES.get(error.status, "Error").removesuffix("Exception")
        return ApiReply(
            error.status,
            orjson.dumps({"errors": [{"code": code, "message": error.message}]}),
            headers,
        )
    code = error.code or PINPOINT_CODES.get(error.status, "InternalServerErrorException")
    headers["x-amzn-ErrorType"] = code
    content = {"Message": error.message, "RequestID": request_id}
    return ApiReply(error.status, orjson.dumps(content), headers)
