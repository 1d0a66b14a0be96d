"""What declares an event stream is read whichever tool wrote it."""

import json
from collections.abc import Mapping

import pytest

from forwarder.errors import ConfigurationError
from forwarder.imports import reading
from forwarder.imports.event_stream import EventStream, as_written, is_resolved

APP = "810c7aab86d42fb2b56c8c966a1b2c3d"
ARN = "arn:aws:kinesis:us-east-1:111122223333:stream/shop"
FIREHOSE = "arn:aws-cn:firehose:cn-north-1:111122223333:deliverystream/shop"
ROLE = "arn:aws:iam::111122223333:role/service-role/pinpoint"
ACCOUNT = {"AWS::Region": "us-east-1", "AWS::AccountId": "111122223333"}


def read(
    text: str, given: Mapping[str, str] | None = None, destination: str | None = None
) -> list[EventStream]:
    return reading.event_streams(text, given or {}, destination)


def told(one: EventStream) -> tuple[str, str, str]:
    """Return app, destination and role; what is not resolved as it was written, in brackets."""
    texts = (one.application, one.destination.arn, one.role)
    app, arn, role = (t if is_resolved(t) else f"<{as_written(t)}>" for t in texts)
    return app, arn, role


def response(**changes: object) -> dict[str, object]:
    return {
        "EventStream": {
            "ApplicationId": APP,
            "DestinationStreamArn": ARN,
            "LastModifiedDate": "2023-03-04T05:06:07.000Z",
            "LastUpdatedBy": "admin",
            "RoleArn": ROLE,
            **changes,
        }
    }


def test_what_the_command_line_prints_is_read() -> None:
    [found] = read(json.dumps(response(), indent=4))
    assert (APP, ARN, ROLE) == told(found)
    assert ("", "kinesis", "shop") == (
        found.label, found.destination.service, found.destination.name
    )  # fmt: skip


def test_what_it_prints_as_yaml_is_read() -> None:
    text = f"EventStream:\n  ApplicationId: {APP}\n  DestinationStreamArn: {FIREHOSE}\n"
    [found] = read(f"{text}  RoleArn: {ROLE}\n")
    assert (APP, FIREHOSE, ROLE) == told(found)
    assert "firehose" == found.destination.service


def test_several_answers_one_after_the_other_or_in_a_list_are_read() -> None:
    one, other = response(), response(ApplicationId="b")
    assert [APP, "b"] == [f.application for f in read(f"{json.dumps(one)}\n{json.dumps(other)}\n")]
    assert [APP, "b"] == [f.application for f in read(json.dumps([one, other]))]
    assert [APP] == [f.application for f in read("\ufeff" + json.dumps(one["EventStream"]))]


TEMPLATE = """\
AWSTemplateFormatVersion: "2010-09-09"
Parameters:
  Env: {Type: String, Default: prod}
  RoleArn: {Type: String}
Mappings: {Names: {prod: {stream: shop-mapped}}}
Conditions: {Always: !Equals [a, a]}
Resources:
  App: {Type: AWS::Pinpoint::App, Properties: {Name: shop}}
  Stream: {Type: AWS::Kinesis::Stream, Properties: {Name: !Sub "shop-${Env}"}}
  Nameless: {Type: AWS::Kinesis::Stream, Properties: {ShardCount: 1}}
  Fire: {Type: AWS::KinesisFirehose::DeliveryStream, Properties: {DeliveryStreamName: !Ref Env}}
  Writer: {Type: AWS::IAM::Role, Properties: {RoleName: writer, Path: /team/}}
  EventStream:
    Type: AWS::Pinpoint::EventStream
    Properties:
      ApplicationId: %s
      DestinationStreamArn: %s
      RoleArn: %s
"""
DESTINATIONS = [
    ("!GetAtt Stream.Arn", "arn:aws:kinesis:us-east-1:111122223333:stream/shop-prod"),
    ("!GetAtt [Stream, Arn]", "arn:aws:kinesis:us-east-1:111122223333:stream/shop-prod"),
    ("{'Fn::GetAtt': [Fire, Arn]}", "arn:aws:firehose:us-east-1:111122223333:deliverystream/prod"),
    ("!GetAtt Nameless.Arn", "<arn:aws:kinesis:us-east-1:111122223333:stream/Nameless>"),
    (
        "!Sub arn:${AWS::Partition}:kinesis:${AWS::Region}:${AWS::AccountId}:stream/${Stream}",
        "arn:aws:kinesis:us-east-1:111122223333:stream/shop-prod",
    ),
    ("!Sub '${Stream.Arn}'", "arn:aws:kinesis:us-east-1:111122223333:stream/shop-prod"),
    (
        "!Sub ['arn:aws:kinesis:us-east-1:111122223333:stream/${Name}', {Name: !Ref Env}]",
        "arn:aws:kinesis:us-east-1:111122223333:stream/prod",
    ),
    (
        "!Join [':', ['arn:aws:kinesis', !Ref AWS::Region, !Ref AWS::AccountId, 'stream/s']]",
        "arn:aws:kinesis:us-east-1:111122223333:stream/s",
    ),
    (
        (
            "!Sub ['arn:aws:kinesis:eu-west-1:1:stream/${N}', "
            "{N: !FindInMap [Names, !Ref Env, stream]}]"
        ),
        "arn:aws:kinesis:eu-west-1:1:stream/shop-mapped",
    ),
    (
        "!Sub 'arn:aws:kinesis:${Where}:1:stream/s'",
        "<arn:aws:kinesis:Where:1:stream/s>",
    ),
]


@pytest.mark.parametrize(("written", "arn"), DESTINATIONS)
def test_a_templates_destination_is_resolved_as_far_as_it_tells(written: str, arn: str) -> None:
    [found] = read(TEMPLATE % (APP, written, ROLE), ACCOUNT)
    assert (APP, arn, ROLE) == told(found)
    assert "EventStream" == found.label


def test_what_a_template_does_not_tell_is_left_open() -> None:
    [found] = read(TEMPLATE % ("!Ref App", "!GetAtt Stream.Arn", "!Ref RoleArn"))
    arn = "<arn:aws:kinesis:AWS::Region:AWS::AccountId:stream/shop-prod>"
    assert ("<App>", arn, "<RoleArn>") == told(found)
    assert "shop-prod" == found.destination.name


def test_parameters_have_the_values_that_are_given() -> None:
    given = {**ACCOUNT, "Env": "test", "RoleArn": ROLE}
    [found] = read(TEMPLATE % ("!Ref App", "!GetAtt Stream.Arn", "!Ref RoleArn"), given)
    assert ("<App>", "arn:aws:kinesis:us-east-1:111122223333:stream/shop-test", ROLE) == told(found)


def test_a_role_of_the_template_has_its_path() -> None:
    [found] = read(TEMPLATE % (APP, ARN, "!GetAtt Writer.Arn"), ACCOUNT)
    assert "arn:aws:iam::111122223333:role/team/writer" == found.role


def test_a_template_may_be_json_and_hold_several() -> None:
    streams = {
        name: {
            "Type": "AWS::Pinpoint::EventStream",
            "Properties": {
                "ApplicationId": name,
                "DestinationStreamArn": {"Fn::Sub": ARN},
                "RoleArn": ROLE,
            },
        }
        for name in ("A", "B")
    }
    found = read(json.dumps({"Resources": {**streams, "C": {"Type": "AWS::S3::Bucket"}}}))
    assert [("A", ARN, ROLE), ("B", ARN, ROLE)] == [told(one) for one in found]


def test_a_template_that_turns_in_a_circle_ends() -> None:
    text = TEMPLATE % (APP, ARN, "!GetAtt Loop.Arn")
    loop = "  Loop: {Type: AWS::IAM::Role, Properties: {RoleName: !Ref Loop}}\n"
    [found] = read(text.replace("  EventStream:\n", f"{loop}  EventStream:\n", 1), ACCOUNT)
    assert not is_resolved(found.role)


def test_a_destination_that_no_source_tells_is_asked_for() -> None:
    text = TEMPLATE % (APP, "!ImportValue stream", ROLE)
    with pytest.raises(
        ConfigurationError, match=r"which this source does not tell; give it: --des"
    ):
        read(text)
    [found] = read(text, {}, ARN)
    assert (APP, ARN, ROLE) == told(found)


VALUES = {"application_id": APP, "destination_stream_arn": ARN, "role_arn": ROLE, "id": APP}
RESOURCE = {
    "address": "aws_pinpoint_event_stream.shop",
    "mode": "managed",
    "type": "aws_pinpoint_event_stream",
    "name": "shop",
    "values": VALUES,
}
OTHER = {"address": "aws_s3_bucket.b", "mode": "managed", "type": "aws_s3_bucket", "values": {}}
INNER = {**RESOURCE, "address": 'module.eu["a"].aws_pinpoint_event_stream.shop[0]'}
MODULE = {
    "resources": [OTHER, RESOURCE],
    "child_modules": [{"address": "module.eu", "resources": [INNER]}],
}
STATE_FILE = {
    "version": 4,
    "terraform_version": "1.9.0",
    "resources": [
        {"mode": "data", "type": "aws_pinpoint_event_stream", "name": "x", "instances": [{}]},
        {
            "mode": "managed",
            "type": "aws_pinpoint_event_stream",
            "name": "shop",
            "instances": [{"index_key": "eu", "attributes": VALUES}, {"attributes": VALUES}],
        },
    ],
}
WRITTEN = [
    ({"format_version": "1.0", "values": {"root_module": MODULE}}, [RESOURCE, INNER]),
    ({"format_version": "1.2", "planned_values": {"root_module": MODULE}}, [RESOURCE, INNER]),
    (
        STATE_FILE,
        [
            {"address": 'aws_pinpoint_event_stream.shop["eu"]'},
            {"address": "aws_pinpoint_event_stream.shop"},
        ],
    ),
    ({"resource": {"aws_pinpoint_event_stream": {"shop": VALUES}}}, [RESOURCE]),
]


@pytest.mark.parametrize(("content", "resources"), WRITTEN)
def test_what_terraform_writes_as_json_is_read(
    content: object, resources: list[dict[str, object]]
) -> None:
    found = read(json.dumps(content))
    assert [(APP, ARN, ROLE)] * len(resources) == [told(one) for one in found]
    assert [one["address"] for one in resources] == [one.label for one in found]


def test_what_is_known_after_apply_is_left_open_under_the_name_it_has() -> None:
    planned = {**RESOURCE, "values": {}}
    references = {
        "application_id": "aws_pinpoint_app.shop.application_id",
        "destination_stream_arn": "aws_kinesis_stream.shop.arn",
        "role_arn": "aws_iam_role.shop.arn",
    }
    written = {key: {"references": [one]} for key, one in references.items()}
    text = json.dumps({
        "format_version": "1.2",
        "planned_values": {"root_module": {"resources": [planned]}},
        "configuration": {"root_module": {"resources": [{**RESOURCE, "expressions": written}]}},
    })  # fmt: skip
    [found] = read(text, ACCOUNT)
    arn = "<arn:aws:kinesis:us-east-1:111122223333:stream/aws_kinesis_stream.shop.arn>"
    app, role = references["application_id"], references["role_arn"]
    assert (f"<{app}>", arn, f"<{role}>") == told(found)


REFUSED = [
    ("", "holds no event stream; give the output of `aws pinpoint get-event-stream`"),
    ("just a text", "holds no event stream"),
    ("[1, 2]", "holds no event stream"),
    ("{", "is no JSON (line 1"),
    ('{"EventStream": {}}', "holds no event stream"),
    ("a: [", "is neither JSON nor YAML (line 1)"),
    ("- " * 2000, "is nested more than 100 deep"),
    ("[" * 100_000, "has not the form"),
    ('{"Resources": {"A": {"Type": "AWS::S3::Bucket"}}}', "holds no event stream"),
    ('{"Resources": {"A": {"Type": "AWS::Pinpoint::EventStream"}}}', "does not tell"),
    ('{"format_version": "1", "values": {"root_module": {"resources": [7]}}}', "has not the form"),
    (json.dumps(response(DestinationStreamArn="arn:aws:s3:::b")), "is no ARN of a Kinesis stream"),
    (json.dumps(response(DestinationStreamArn=ARN.replace("shop", ""))), "is no ARN of a Kinesis"),
]


@pytest.mark.parametrize(("text", "what"), REFUSED)
def test_what_declares_none_is_refused_with_what_to_give(text: str, what: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(text)
    assert what in str(caught.value)
    assert "; give " in str(caught.value)
