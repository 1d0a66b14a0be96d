"""Terraform's own language is read as far as a declaration needs it, and no further."""

import pytest

from forwarder.errors import ConfigurationError
from forwarder.imports import hcl, reading
from tests.unit.imports.test_reading import ACCOUNT, APP, ARN, ROLE, told

SOURCE = """\
terraform { required_providers { aws = { source = "hashicorp/aws" } } }
provider "aws" { region = "eu-west-1" }
variable "env" {
  type    = string
  default = "prod" # not "test"
}
variable "open" { type = string }
locals {
  prefix = "shop-${var.env}"  // "quoted"
  stream = "${local.prefix}-events"
}
data "aws_caller_identity" "current" {}
resource "aws_pinpoint_app" "app" { name = "shop" }
resource "aws_kinesis_stream" "named" {
  name = local.stream
  tags = { brace = "}", text = <<-EOT
    } " not the end
    EOT
  }
  dynamic "x" { for_each = [{ a = "]" }] /* } */ }
}
resource "aws_kinesis_stream" "prefixed" { name_prefix = "shop" }
resource "aws_kinesis_firehose_delivery_stream" "fire" { name = "fire" }
resource "aws_iam_role" "role" {
  name = "pinpoint-${var.env}"
  assume_role_policy = jsonencode({ Statement = [{ Effect = "Allow" }] })
}
resource "aws_pinpoint_event_stream" "stream" {
  application_id         = %s
  destination_stream_arn = %s
  role_arn               = %s
}
"""
NAMED = "arn:aws:kinesis:eu-west-1:111122223333:stream/shop-prod-events"
DESTINATIONS = [
    (f'"{ARN}"', ARN),
    ("aws_kinesis_stream.named.arn", NAMED),
    ('"${aws_kinesis_stream.named.arn}"', NAMED),
    (
        "aws_kinesis_firehose_delivery_stream.fire.arn",
        "arn:aws:firehose:eu-west-1:111122223333:deliverystream/fire",
    ),
    (
        "aws_kinesis_stream.prefixed.arn",
        "<arn:aws:kinesis:eu-west-1:111122223333:stream/aws_kinesis_stream.prefixed.arn>",
    ),
    (
        "aws_kinesis_stream.elsewhere.arn",
        "<arn:aws:kinesis:eu-west-1:111122223333:stream/aws_kinesis_stream.elsewhere.arn>",
    ),
    (
        '"arn:aws:kinesis:us-east-1:${data.aws_caller_identity.current.account_id}:stream/${var.env}"',
        "arn:aws:kinesis:us-east-1:111122223333:stream/prod",
    ),
    (
        '"arn:aws:kinesis:us-east-1:1:stream/${var.open}"',
        "<arn:aws:kinesis:us-east-1:1:stream/var.open>",
    ),
    (
        '"arn:aws:kinesis:us-east-1:1:stream/${lower("A")}-$${x}"',
        '<arn:aws:kinesis:us-east-1:1:stream/lower("A")-${x}>',
    ),
]  # fmt: skip


@pytest.mark.parametrize(("written", "arn"), DESTINATIONS)
def test_a_destination_is_resolved_as_far_as_the_source_tells(written: str, arn: str) -> None:
    account = {"AWS::AccountId": "111122223333"}
    [found] = reading.event_streams(SOURCE % (f'"{APP}"', written, f'"{ROLE}"'), account)
    assert (APP, arn, ROLE) == told(found)
    assert "aws_pinpoint_event_stream.stream" == found.label


def test_what_the_source_does_not_tell_is_left_open() -> None:
    app, role = "aws_pinpoint_app.app.application_id", "aws_iam_role.role.arn"
    [found] = reading.event_streams(SOURCE % (app, f'"{ARN}"', role), {})
    assert (f"<{app}>", ARN, "<arn:aws:iam::AWS::AccountId:role/pinpoint-prod>") == told(found)


def test_variables_and_the_account_have_the_values_that_are_given() -> None:
    given = {**ACCOUNT, "env": "test", "open": APP}
    text = SOURCE % ("var.open", "aws_kinesis_stream.named.arn", "aws_iam_role.role.arn")
    [found] = reading.event_streams(text, given)
    assert told(found) == (
        APP,
        "arn:aws:kinesis:us-east-1:111122223333:stream/shop-test-events",
        "arn:aws:iam::111122223333:role/pinpoint-test",
    )


def test_an_expression_that_is_more_than_a_reference_is_left_open() -> None:
    text = SOURCE % ('var.env == "prod" ? "a" : "b"', f'"{ARN}"', "try(local.x, null)")
    [found] = reading.event_streams(text, {})
    assert ('<var.env == "prod" ? "a" : "b">', ARN, "<try(local.x, null)>") == told(found)


def test_references_that_turn_in_a_circle_end() -> None:
    text = SOURCE % (f'"{APP}"', f'"{ARN}"', "local.a")
    [found] = reading.event_streams(f"{text}locals {{\n a = local.b\n b = local.a\n}}\n", {})
    assert not found.role.isprintable()


def test_several_resources_of_a_source_are_found() -> None:
    more = (SOURCE % (f'"{APP}"', f'"{ARN}"', f'"{ROLE}"')).splitlines()[-5:]
    second = "\n".join(more).replace('"stream"', '"second"')
    text = SOURCE % (f'"{APP}"', f'"{ARN}"', f'"{ROLE}"') + second
    assert ["stream", "second"] == [
        one.label.rpartition(".")[2] for one in reading.event_streams(text, {})
    ]


BROKEN = [
    ('resource "aws_pinpoint_event_stream" "a" {', "line 1 ends within a block"),
    (
        'resource "aws_pinpoint_event_stream" "a" {\n x = "b\n',
        "line 2 has a quote that does not end",
    ),
    ('resource "aws_pinpoint_event_stream" "a" {\n x = "${b"\n', "does not end"),
    ('resource "aws_pinpoint_event_stream" "a"\n', "line 1 has neither = nor { after a name"),
    ('resource "aws_pinpoint_event_stream" "a" { x = <<E\n', "line 1 has no end of <<E"),
    ('resource "aws_pinpoint_event_stream" "a" {}\n%', "line 2 has no name where one must stand"),
    ('resource "aws_pinpoint_event_stream" "a" {}\n' + "a {" * 60, "is nested too deeply"),
]


@pytest.mark.parametrize(("text", "what"), BROKEN)
def test_what_is_no_source_is_refused_with_its_line(text: str, what: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        reading.event_streams(text, {})
    assert what in str(caught.value)


def test_parts_of_quoted_text_are_told_apart() -> None:
    parts = hcl.quoted(r'"a$${b}${ c.d }\"\u00e9"')
    assert [(False, "a${b}"), (True, "c.d"), (False, '"é')] == parts
    assert None is hcl.quoted('"a" + "b"')
    assert [] == hcl.quoted('""')
