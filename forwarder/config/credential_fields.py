"""The description of ``credentials`` in a connection file, and what it amounts to."""

from dataclasses import dataclass
from pathlib import Path

from forwarder.config import aws_regions, checks
from forwarder.config.connection import AccessKeys, AssumedRole, Credentials, Origin
from forwarder.config.yaml import variables
from forwarder.config.yaml.sections import Field, Section, Sheet
from forwarder.config.yaml.values import Nullable, Text

# The role mParticle's own guide for this integration has customers create.
_DEFAULT_ROLE = "mparticle-kinesis-role"


@dataclass(frozen=True)
class Given:
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


def _one_way_in(sheet: Sheet) -> None:
    if sheet.has(*_KEYS) and sheet.has(*_ROLE):
        place = sheet.spot
        place.fault("has both a role and access keys; keep one of them")
    elif sheet.has(*_KEYS):
        _both(sheet, *_KEYS)
    elif sheet.has(*_ROLE):
        _whole_role(sheet)


def _both(sheet: Sheet, first: str, second: str) -> None:
    for name, other in ((first, second), (second, first)):
        if not sheet.has(name):
            sheet.fault(name, f"is missing; it belongs to {other}, give both or neither")


def _whole_role(sheet: Sheet) -> None:
    if sheet.has("role_arn"):
        for name in ("aws_account_id", "role_name"):
            if sheet.has(name):
                sheet.fault(name, "says what role_arn already holds; keep one of them")
        if not sheet.has("org_id", "external_id"):
            what = "no ExternalId will be sent; add org_id or external_id if the trust asks for one"
            sheet.note("role_arn", what)
        return
    if not sheet.has("aws_account_id"):
        sheet.fault("aws_account_id", "is missing; add the account of the role, or role_arn")
    if not sheet.has("org_id", "external_id"):
        sheet.fault("org_id", "is missing; add it (or external_id), the role's trust asks for it")


CREDENTIALS = Section(
    Given,
    (
        Field(
            "aws_account_id",
            Nullable(
                Text('an AWS account id, twelve digits in quotes: "111122223333"', r"[0-9]{12}")
            ),
            "The AWS account of the role to assume: twelve digits, in quotes.",
        ),
        Field(
            "org_id",
            Nullable(Text("an mParticle organisation id, in quotes", checks.ORG_ID)),
            "The mParticle organisation; the ExternalId sent is orgid:ORG_ID.",
        ),
        Field(
            "external_id",
            Nullable(
                Text(
                    "an ExternalId: 2 to 1224 of a-z A-Z 0-9 _ + = , . @ : / -", checks.EXTERNAL_ID
                )
            ),
            "The whole ExternalId, instead of the one made from org_id.",
        ),
        Field(
            "role_name",
            Nullable(
                Text(
                    "a role's name: 1 to 64 of a-z A-Z 0-9 _ + = , . @ -",
                    checks.ROLE_NAME,
                    generated=True,
                )
            ),
            f"The role's name, where it is not {_DEFAULT_ROLE}.",
        ),
        Field(
            "role_arn",
            Nullable(
                Text(
                    "a role's ARN such as arn:aws:iam::111122223333:role/NAME",
                    checks.ROLE_ARN,
                    check=checks.role_arn,
                    generated=True,
                )
            ),
            "The whole ARN of the role, instead of aws_account_id and role_name.",
        ),
        Field(
            "access_key_id",
            Nullable(Text("an access key id", r"\w{1,128}", secret=True)),
            "A static access key, best as ${NAME} or ${file:PATH}; not together with a role.",
        ),
        Field(
            "secret_access_key",
            Nullable(Text("a secret access key", check=checks.secret, secret=True)),
            "Its secret, best as ${NAME} or ${file:PATH}.",
        ),
    ),
    checks=(_one_way_in,),
    rules={
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


def origin_of(sheet: Sheet, sink: object) -> Origin:
    """Return where the access keys of a connection are written."""
    page, files = sheet.spot.page, list[Path]()
    for name in _KEYS:
        if spot := sheet.spots.get(name):
            files += variables.files(str(spot.node.value), page.folder)
    return Origin((str(page.folder / Path(page.file).name), *map(str, files)), sink)


def credentials_of(given: Given, region: str, origin: Origin | None = None) -> Credentials:
    """Return what a sink in this region authenticates with; None: the default AWS chain."""
    if given.access_key_id and given.secret_access_key:
        return AccessKeys(given.access_key_id, given.secret_access_key, origin)
    if not (given.role_arn or given.aws_account_id):
        return None
    external = given.external_id or (f"orgid:{given.org_id}" if given.org_id else None)
    name = given.role_name or _DEFAULT_ROLE
    made = f"arn:{aws_regions.of(region)}:iam::{given.aws_account_id}:role/{name}"
    return AssumedRole(given.role_arn or made, external)
