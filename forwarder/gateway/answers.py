"""What the answers of Pinpoint's operations have in common."""

import json
from typing import Any

import orjson

from forwarder.config.gateway import App
from forwarder.gateway.contract import ApiCall, ApiError


def app_of(call: ApiCall) -> str:
    """Return the id of the app that the call was found to be allowed for."""
    if not isinstance(call.caller, App):
        raise ApiError(403, "ForbiddenException", "No app was named, or none that you may use.")
    return call.caller.id


def bad_request(message: str) -> ApiError:
    """Return the error of a request that is refused as a whole."""
    return ApiError(400, "BadRequestException", message)


def encode_json(value: Any) -> bytes:  # noqa: ANN401  # any JSON
    """Return JSON, of texts with half a surrogate pair, too."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()
