"""What AWS, Kafka and the document format accept: each check returns a complaint or nothing.

A complaint says what is wrong and what to do; ``{}`` in it stands for the value as written.
"""

import re
from urllib.parse import urlsplit

from forwarder.config import aws_regions
from forwarder.config.yaml.spelling import did_you_mean

# The words that AWS makes names of regions of. Its own patterns take any word there.
_REGION = re.compile(
    r"[a-z]{2,4}(?:-[a-z]{2,5})?"
    r"-(?:central|north|south|east|west|northeast|northwest|southeast|southwest)-[1-9]"
)

# Kafka's Topic.validate: 249 characters, which leaves room for "-0.log" in a file name of 255.
MAX_TOPIC_CHARS = 249
KAFKA_NAME = r"[a-zA-Z0-9._-]{1,249}"
CONNECTION_NAME = r"[a-zA-Z0-9._-]{1,100}"
APP_ID = r"[a-zA-Z0-9._-]{1,128}"
"""An app's id; Pinpoint's own are 32 hexadecimal digits. Without a slash, which ends it in keys."""
ACCOUNT_ID = r"[0-9]{12}"
ACCOUNT_ID_ADVICE = 'an AWS account id, twelve digits in quotes: "111122223333"'
BROKER = r"(\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9._-]+)(?::([0-9]{1,5}))?"
"""A broker's address; the port may be missing here, so that it can be asked for."""

# STS AssumeRole: ExternalId 2 to 1224 characters of this set; "orgid:" takes six of them.
EXTERNAL_ID = r"[\w+=,.@:/-]{2,1224}"
ORG_ID = r"[\w+=,.@:/-]{1,1218}"
ROLE_NAME = r"[\w+=,.@-]{1,64}"
ROLE_ARN = rf"arn:aws(?:-[a-z]+)*:iam::[0-9]{{12}}:role/(?:[\w+=,.@/-]{{1,512}}/)?{ROLE_NAME}"

_STREAM_ARN = re.compile(
    r"arn:(aws(?:-[a-z]+)*):kinesis:([a-z0-9-]{1,40}):[0-9]{12}:stream/[a-zA-Z0-9_.-]{1,128}"
)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def region_complaint(text: str) -> str | None:
    """Complain about what cannot be a region; a new one has to fit a partition's pattern."""
    if _is_region(text):
        return None
    if _is_region(text[:-1]):
        return "{} is an availability zone; give its region, without the letter"
    near = did_you_mean(text, sorted(aws_regions.known_regions()))
    return f"must be an AWS region such as us-east-1, is {{}}{near}"


def role_arn_complaint(text: str) -> str | None:
    """Complain about an ARN of a partition that there is not."""
    partition = text.split(":")[1]
    if partition in aws_regions.partition_names():
        return None
    near = did_you_mean(partition, aws_regions.partition_names())
    return f"is of partition {partition}, which AWS does not have{near}; correct it"


def _is_region(text: str) -> bool:
    known = text in aws_regions.known_regions()
    return known or (
        aws_regions.find_partition(text) is not None and _REGION.fullmatch(text) is not None
    )


def stream_complaint(text: str) -> str | None:
    """Complain about what can be neither the name nor the ARN of a Kinesis stream."""
    if not text.startswith("arn:"):
        return _stream(text, 128, "stream/")
    found = _STREAM_ARN.fullmatch(text)
    if found is None:
        return "is no ARN of a stream: arn:aws:kinesis:REGION:ACCOUNT:stream/NAME; copy it whole"
    partition, region = found.groups()
    if partition != aws_regions.partition_name(region):
        own = aws_regions.partition_name(region)
        return f"is of partition {partition}, its region {region} is in {own}; correct it"
    return None


def delivery_stream_complaint(text: str) -> str | None:
    """Complain about what cannot be the name of a Firehose delivery stream."""
    return _stream(text, 64, "deliverystream/")


def _stream(text: str, longest: int, before: str) -> str | None:
    if text.startswith("arn:"):
        return f"must be the stream's name, is an ARN; give the part after {before}"
    if not re.fullmatch(rf"[a-zA-Z0-9_.-]{{1,{longest}}}", text):
        known = f"1 to {longest} of the characters a-z A-Z 0-9 _ . -"
        return f"must be {known}, is {{}}; copy the stream's name"
    return None


def endpoint_complaint(text: str) -> str | None:
    """Complain about what cannot be an endpoint; a URL must not carry credentials."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is no URL that can be understood; write https://HOST or https://HOST:PORT"
    if parts.username is not None or parts.password is not None:
        return "holds a user name or password; put them under credentials"
    if parts.scheme not in {"http", "https"} or not host or re.search(r"\s", text):
        return "must begin with https:// or http:// and name a host, is {}; write https://HOST"
    if parts.query or parts.fragment:
        return "must end after the host, port and path, is {}; cut what follows ? or #"
    return None


def is_unencrypted(text: str) -> bool:
    """Tell whether an endpoint is spoken to in clear beyond this machine."""
    parts = urlsplit(text)
    return parts.scheme == "http" and parts.hostname not in _LOOPBACK


def broker_complaint(text: str) -> str | None:
    """Complain about what cannot be a broker's address; who logs in does not stand in it."""
    if "@" in text:
        return "holds a user name or password; write HOST:PORT, and them under kafka.security"
    match = re.fullmatch(BROKER, text)
    if not match:
        advice = "one list element for each broker" if "," in text else "write HOST:PORT"
        return f"must be HOST:PORT, is {{}}; {advice}"
    if match.group(2) is None:
        return "has no port, is {}; add it, such as :9092"
    return (
        None
        if 0 < int(match.group(2)) < 1 << 16
        else "has a port beyond 1 to 65535, is {}; correct it"
    )


def kafka_name_complaint(text: str) -> str | None:
    """Complain about what Kafka takes for no name of a topic or group."""
    if not re.fullmatch(KAFKA_NAME, text):
        return "must be 1 to 249 of the characters a-z A-Z 0-9 . _ -, is {}; Kafka takes no other"
    if text in {".", ".."}:
        return "cannot be {}; Kafka takes . and .. for folders, choose another name"
    return None


def connection_name_complaint(text: str) -> str | None:
    """Complain about a connection name that a metric label or a file cannot carry."""
    if not re.fullmatch(CONNECTION_NAME, text):
        return "must be 1 to 100 of the characters a-z A-Z 0-9 . _ -, is {}; choose such a name"
    if text == "dead-letters":
        return "is taken by the file of dead letters (dead-letters.ndjson); choose another name"
    return None


def secret_complaint(text: str) -> str | None:
    """Complain about blanks that were copied along."""
    return (
        "holds white space; copy it again without blanks or line ends"
        if re.search(r"\s", text)
        else None
    )
