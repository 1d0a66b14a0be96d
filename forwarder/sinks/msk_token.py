"""Tokens for Amazon MSK: AWS's own signer, and a role to sign with where one is named.

Everything here blocks: it is called in a thread.
"""

import threading
from typing import Any, cast

from botocore.config import Config
from botocore.credentials import CredentialProvider, Credentials
from botocore.exceptions import HTTPClientError
from botocore.httpsession import URLLib3Session
from botocore.session import Session

MOST_BYTES = 256 * 1024
"""Bytes of an answer; those of STS and of instance metadata have some KiB."""
SESSION_NAME = "forwarder-kafka"
_STS = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 1})


_send = URLLib3Session.send
_thread = threading.local()


def _send_bounded(session: URLLib3Session, request: Any) -> Any:  # noqa: ANN401  # the library's own
    """Send as the library does, but read an answer up to a bound while this thread signs.

    The signer asks STS and instance metadata by sessions that it gives no way to choose.
    """
    if not getattr(_thread, "signs", False):
        return _send(session, request)
    streamed, request.stream_output = request.stream_output, True
    answer = _send(session, request)
    if not streamed:
        content = answer.raw.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            answer.raw.close()
            raise HTTPClientError(error="the answer is larger than any to this request")
        answer._content = content  # noqa: SLF001  # where the library keeps what it has read
    return answer


URLLib3Session.send = _send_bounded


class _Role(CredentialProvider):  # type: ignore[misc]  # the library ships no types
    """Keys of a role, from STS in the cluster's own region.

    The signer's own way to assume a role asks in whatever region the environment names, or fails.
    """

    def __init__(self, region: str, role_arn: str) -> None:
        super().__init__()
        self._region = region
        self._role_arn = role_arn

    def load(self) -> Any:  # noqa: ANN401  # the library's own class
        sts = Session().create_client("sts", region_name=self._region, config=_STS)
        given = sts.assume_role(RoleArn=self._role_arn, RoleSessionName=SESSION_NAME)["Credentials"]
        return Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])


def sign(region: str, role_arn: str | None) -> tuple[str, int]:
    """Return a token and when it expires in milliseconds; raises what library and STS raise."""
    # Here, for it brings boto3 along, which nobody else needs (30 ms, 2 MiB).
    from aws_msk_iam_sasl_signer import MSKAuthTokenProvider as Signer  # noqa: PLC0415

    _thread.signs = True
    try:
        if role_arn is None:
            made = Signer.generate_auth_token(region)
        else:
            role = _Role(region, role_arn)
            made = Signer.generate_auth_token_from_credentials_provider(region, role)
    finally:
        _thread.signs = False
    return cast("tuple[str, int]", made)
