"""How a connection signs its requests to AWS: access keys, a role, or the default chain."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from forwarder.config import masking


@dataclass(frozen=True, slots=True)
class KeyOrigin:
    """Where access keys were written: the connection file, then the files it takes them from.

    ``sink`` is the connection's own: keys that are found there later count while it is the same.
    """

    files: tuple[str, ...]
    sink: object


@dataclass(frozen=True, slots=True)
class AccessKeys:
    """Static keys, already resolved from the environment or a file."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    origin: KeyOrigin | None = field(default=None, repr=False, compare=False)

    @property
    def signer(self) -> "AccessKeys":
        """Return what calls AWS first: the keys themselves."""
        return self

    @property
    def role(self) -> None:
        """Return no role: none is assumed."""

    @property
    def holder(self) -> str:
        """Name the identity whose permissions count, for IAM policies."""
        return "the identity of the connection's access keys"

    @property
    def secrets(self) -> frozenset[str]:
        """Return what no log line may show."""
        return frozenset({self.access_key_id, self.secret_access_key})

    @property
    def derived(self) -> Mapping[str, str]:
        """Return the keys of the file's section that follow from others: none."""
        return {}

    def summary(self) -> str:
        """Say how requests are signed."""
        return "signed with the access keys given"

    def rejection_remedy(self, connection: str) -> str:
        """Say what to renew where AWS goes on rejecting these keys of a connection."""
        file, *others = self.origin.files if self.origin else ("its file",)
        taken = f" (taken from {', '.join(others)})" if others else ""
        what = f"the access keys of connection {connection}"
        return f"renew {what}: credentials.access_key_id and secret_access_key in {file}{taken}"


@dataclass(frozen=True, slots=True)
class DefaultCredentials:
    """Whatever AWS's default chain finds where the worker runs."""

    @property
    def signer(self) -> "DefaultCredentials":
        """Return what calls AWS first: what the chain finds."""
        return self

    @property
    def role(self) -> None:
        """Return no role: what the chain finds is the worker's own."""

    @property
    def holder(self) -> str:
        """Name the identity whose permissions count, for IAM policies."""
        return "the worker"

    @property
    def secrets(self) -> frozenset[str]:
        """Return what no log line may show: nothing of it is configured."""
        return frozenset()

    @property
    def derived(self) -> Mapping[str, str]:
        """Return the keys of the file's section that follow from others: none."""
        return {}

    def summary(self) -> str:
        """Say how requests are signed."""
        return "signed with the default AWS chain (environment, pod or instance)"

    def rejection_remedy(self, _: str) -> str:
        """Say nothing better than the table of AWS's errors does."""
        return ""


DEFAULT = DefaultCredentials()


@dataclass(frozen=True, slots=True)
class AssumedRole:
    """A role in the customer's account, and the ExternalId its trust policy asks for."""

    role_arn: str
    external_id: str | None

    @property
    def signer(self) -> DefaultCredentials:
        """Return what calls AWS first: what the default chain finds assumes the role."""
        return DEFAULT

    @property
    def role(self) -> "AssumedRole":
        """Return the role that is assumed."""
        return self

    @property
    def account(self) -> str:
        """Return the role's AWS account."""
        return self.role_arn.split(":")[4]

    @property
    def holder(self) -> str:
        """Name the identity whose permissions count, for IAM policies."""
        return self.role_arn

    @property
    def secrets(self) -> frozenset[str]:
        """Return what no log line may show: its temporary keys are none of the configuration."""
        return frozenset()

    @property
    def derived(self) -> Mapping[str, str]:
        """Return the keys of the file's section that follow from others."""
        found = {"role_arn": self.role_arn, "external_id": self.external_id}
        return {name: value for name, value in found.items() if value}

    def summary(self) -> str:
        """Say how requests are signed."""
        external = "no ExternalId"
        if self.external_id:
            external = f"ExternalId {masking.mask_line(self.external_id)}"
        return f"signed as {masking.mask_keys(self.role_arn)}, with {external}"

    def rejection_remedy(self, _: str) -> str:
        """Say what to look at where AWS goes on rejecting the role's keys."""
        return f"check {self.role_arn}, and the worker's own credentials, by which it is assumed"


Credentials = AccessKeys | AssumedRole | DefaultCredentials
"""How a connection signs.

Another way is a class with the same members, the keys it is read from (``credential_fields``) and
its row in ``aws.session``.
"""
