"""Tokens for Amazon MSK: AWS's own signer, and a role to sign with where one is named.

Everything here blocks: it is called in a thread.
"""

from typing import Any, cast

from botocore.config import Config
from botocore.credentials import CredentialProvider, Credentials
from botocore.session import Session

SESSION_NAME = "forwarder-kafka"
_STS = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 1})


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

    if role_arn is None:
        made = Signer.generate_auth_token(region)
    else:
        role = _Role(region, role_arn)
        made = Signer.generate_auth_token_from_credentials_provider(region, role)
    return cast("tuple[str, int]", made)
