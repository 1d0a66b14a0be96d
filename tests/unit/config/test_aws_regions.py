"""Regions, partitions and domains are those of the AWS library that is installed."""

from pathlib import Path

import pytest
from botocore.loaders import Loader
from botocore.session import Session

from forwarder.aws import iam
from forwarder.aws.session import AwsSession
from forwarder.config import aws_regions, checks
from forwarder.config.connection import Connection
from forwarder.config.credentials import AssumedRole
from forwarder.config.loader import load_connection
from forwarder.errors import ConfigurationError
from tests.services.fake_kinesis import LOADER, FakeClock

FILE = """
name: acme
credentials: {{{credentials}}}
sink: {{type: kinesis, stream_name: acme, region: {region}}}
"""
OF_ACCOUNT = 'aws_account_id: "111122223333", org_id: "1"'
NEW = [
    ("aws-eusc", "eusc-de-east-1", "amazonaws.eu"),
    ("aws-iso", "us-iso-east-1", "c2s.ic.gov"),
    ("aws-iso-b", "us-isob-east-1", "sc2s.sgov.gov"),
    ("aws-iso-e", "eu-isoe-west-1", "cloud.adc-e.uk"),
    ("aws-iso-f", "us-isof-south-1", "csp.hci.ic.gov"),
    ("aws-cn", "cn-north-1", "amazonaws.com.cn"),
    ("aws-us-gov", "us-gov-west-1", "amazonaws.com"),
    ("aws", "eu-west-1", "amazonaws.com"),
]
UNKNOWN = [("aws", "ap-southeast-9"), ("aws-eusc", "eusc-de-west-1"), ("aws-iso", "us-iso-south-1")]


def connection(tmp_path: Path, region: str, credentials: str = OF_ACCOUNT) -> Connection:
    file = tmp_path / "acme.yaml"
    file.write_text(FILE.format(credentials=credentials, region=region))
    return load_connection(file).connection


@pytest.mark.parametrize(("partition", "region"), [pair[:2] for pair in NEW] + UNKNOWN)
def test_roles_and_policies_are_of_the_region_s_partition(
    tmp_path: Path, partition: str, region: str
) -> None:
    read = connection(tmp_path, region)
    assert isinstance(read.credentials, AssumedRole)
    role = f"arn:{partition}:iam::111122223333:role/mparticle-kinesis-role"
    assert role == read.credentials.role_arn
    found = iam.iam_policies(read, aws_regions.partition_name(region))
    assert found is not None
    stream = f"arn:{partition}:kinesis:{region}:111122223333:stream/acme"
    assert stream == found.permission["Statement"][0]["Resource"]
    assert (
        read.credentials
        == connection(tmp_path, region, f"role_arn: {role}, org_id: '1'").credentials
    )


@pytest.mark.parametrize(("partition", "region", "suffix"), NEW)
async def test_services_are_in_the_domain_of_the_partition(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, partition: str, region: str, suffix: str
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    aws = AwsSession(FakeClock(), LOADER)
    assert f".{suffix}/" in (await aws.endpoints.find("kinesis", region, None)).url
    role = AssumedRole(f"arn:{partition}:iam::111122223333:role/r", None)
    client = await aws.client("sts", region, aws.make_keyring(role, region, "acme"))
    assert f"https://sts.{region}.{suffix}" == client.meta.endpoint_url
    await client.close()
    await aws.close()


@pytest.mark.parametrize("region", sorted(aws_regions.known_regions()))
def test_every_region_the_library_knows_is_accepted_and_nowhere_else(region: str) -> None:
    assert checks.region_complaint(region) is None
    assert Session().get_partition_for_region(region) == aws_regions.partition_name(region)


def test_every_partition_the_library_knows_is_known() -> None:
    told = Loader().load_data("partitions")["partitions"]
    assert [(each["id"], each["outputs"]["dnsSuffix"]) for each in told] == [
        (each.name, each.suffix) for each in aws_regions.aws_partitions()
    ]


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("eusc-de-esat-1", "did you mean eusc-de-east-1?"),
        ("us-iso-esat-1", "did you mean us-iso-east-1?"),
        ("us-esat-1", "did you mean us-east-1?"),
        ("us-east-1a", "is an availability zone"),
        ("eusc-de-east-1b", "is an availability zone"),
        ("aws-global", "must be an AWS region"),
        ("eu-west-0", "must be an AWS region"),
        ("xx-west-1", "must be an AWS region"),
    ],
)
def test_what_is_no_region_is_still_a_fault(tmp_path: Path, written: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words.replace("?", r"\?")):
        connection(tmp_path, written)


def test_a_role_of_another_partition_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is of partition aws, region"):
        connection(
            tmp_path, "eusc-de-east-1", "role_arn: arn:aws:iam::111122223333:role/r, org_id: '1'"
        )
    with pytest.raises(
        ConfigurationError, match="is of partition aws-mars, which AWS does not have"
    ):
        connection(
            tmp_path, "eu-west-1", "role_arn: arn:aws-mars:iam::111122223333:role/r, org_id: '1'"
        )
