"""The description of ``credentials`` in a connection file, and what it amounts to."""

from dataclasses import dataclass
from pathlib import Path

from forwarder.config import aws_regions, checks
from forwarder.config.credentials import (
    AccessKeys,
    AssumedRole,
    Credentials,
    DefaultCredentials,
    KeyOrigin,
)
from forwarder.config.yaml import variables
from forwarder.config.yaml.sections import Field, Section, SectionValues
from forwarder.config.yaml.values import NullableValue, TextValue

# The role mParticle's own guide for this integration has customers create.
_DEFAULT_ROLE = "mparticle-kinesis-role"


@dataclass(frozen=True)
class CredentialFields:
    """The keys of ``credentials`` as they were written."""

    aws_account_id: str | None = None
    org_id: str | None = None
    external_id: str | None = None
    role_name: str | None = None
    role_arn: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None


_KEYS = ("access_key_id", "secret_access_key")
_ROLE = ("aws_account_id", "org_id", "external_id", "role_name", "role_arn")


def _check_credentials(section: SectionValues) -> None:
    if section.has(*_KEYS) and section.has(*_ROLE):
        place = section.node
        place.fault("has both a role and access keys; keep one of them")
    elif section.has(*_KEYS):
        _check_pair(section, *_KEYS)
    elif section.has(*_ROLE):
        _check_role_complete(section)


def _check_pair(section: SectionValues, first: str, second: str) -> None:
    for name, other in ((first, second), (second, first)):
        if not section.has(name):
            section.fault(name, f"is missing; it belongs to {other}, give both or neither")


def _check_role_complete(section: SectionValues) -> None:
    if section.has("role_arn"):
        for name in ("aws_account_id", "role_name"):
            if section.has(name):
                section.fault(name, "says what role_arn already holds; keep one of them")
        if not section.has("org_id", "external_id"):
            what = "no ExternalId will be sent; add org_id or external_id if the trust asks for one"
            section.note("role_arn", what)
        return
    if not section.has("aws_account_id"):
        section.fault("aws_account_id", "is missing; add the account of the role, or role_arn")
    if not section.has("org_id", "external_id"):
        section.fault("org_id", "is missing; add it (or external_id), the role's trust asks for it")


CREDENTIALS = Section(
    CredentialFields,
    (
        Field(
            "aws_account_id",
            NullableValue(TextValue(checks.ACCOUNT_ID_ADVICE, checks.ACCOUNT_ID)),
            "The AWS account of the role to assume: twelve digits, in quotes.",
        ),
        Field(
            "org_id",
            NullableValue(TextValue("an mParticle organisation id, in quotes", checks.ORG_ID)),
            "The mParticle organisation; the ExternalId sent is orgid:ORG_ID.",
        ),
        Field(
            "external_id",
            NullableValue(
                TextValue(
                    "an ExternalId: 2 to 1224 of a-z A-Z 0-9 _ + = , . @ : / -", checks.EXTERNAL_ID
                )
            ),
            "The whole ExternalId, instead of the one made from org_id.",
        ),
        Field(
            "role_name",
            NullableValue(
                TextValue(
                    "a role's name: 1 to 64 of a-z A-Z 0-9 _ + = , . @ -",
                    checks.ROLE_NAME,
                    generated=True,
                )
            ),
            f"The role's name, where it is not {_DEFAULT_ROLE}.",
        ),
        Field(
            "role_arn",
            NullableValue(
                TextValue(
                    "a role's ARN such as arn:aws:iam::111122223333:role/NAME",
                    checks.ROLE_ARN,
                    check=checks.role_arn_complaint,
                    generated=True,
                )
            ),
            "The whole ARN of the role, instead of aws_account_id and role_name.",
        ),
        Field(
            "access_key_id",
            NullableValue(TextValue("an access key id", r"\w{1,128}", secret=True)),
            "A static access key, best as ${NAME} or ${file:PATH}; not together with a role.",
        ),
        Field(
            "secret_access_key",
            NullableValue(
                TextValue("a secret access key", check=checks.secret_complaint, secret=True)
            ),
            "Its secret, best as ${NAME} or ${file:PATH}.",
        ),
    ),
    checks=(_check_credentials,),
    schema_rules={
        "dependentRequired": {
            "access_key_id": ["secret_access_key"],
            "secret_access_key": ["access_key_id"],
            "role_name": ["aws_account_id"],
        },
        "not": {
            "type": "object",
            "anyOf": [
                *({"required": ["access_key_id", name]} for name in _ROLE),
                *({"required": ["role_arn", name]} for name in ("aws_account_id", "role_name")),
            ],
        },
    },
)


def origin_of(section: SectionValues, sink: object) -> KeyOrigin:
    """Return where the access keys of a connection are written."""
    file, files = section.node.file, list[Path]()
    for name in _KEYS:
        if node := section.nodes.get(name):
            files += variables.referenced_files(str(node.raw.value), file.folder)
    return KeyOrigin((str(file.folder / Path(file.name).name), *map(str, files)), sink)


def credentials_of(
    given: CredentialFields, region: str, origin: KeyOrigin | None = None
) -> Credentials:
    """Return what a sink in this region authenticates with."""
    if given.access_key_id and given.secret_access_key:
        return AccessKeys(given.access_key_id, given.secret_access_key, origin)
    if not (given.role_arn or given.aws_account_id):
        return DefaultCredentials()
    external = given.external_id or (f"orgid:{given.org_id}" if given.org_id else None)
    name = given.role_name or _DEFAULT_ROLE
    made = f"arn:{aws_regions.partition_name(region)}:iam::{given.aws_account_id}:role/{name}"
    return AssumedRole(given.role_arn or made, external)
