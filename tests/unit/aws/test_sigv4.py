"""Signatures by hand are the library's, byte for byte."""

from datetime import UTC, datetime
from typing import Any
from unittest import mock

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.aws import sigv4
from forwarder.aws.sigv4 import Signer

printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=80)
keys = st.builds(ReadOnlyCredentials, printable, printable, st.none() | printable)
paths = st.text("abcXYZ019/._~%+-", max_size=30).map(lambda path: "/" + path.lstrip("/"))
hosts = st.sampled_from(
    ["kinesis.us-east-1.amazonaws.com", "vpce-0A.Example", "127.0.0.1", "[::1]"]
)
ports = st.sampled_from(["", ":80", ":443", ":4566"])
urls = st.builds(
    lambda scheme, host, port, path: f"{scheme}://{host}{port}{path}",
    st.sampled_from(["http", "https"]),
    hosts,
    ports,
    paths,
)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1))  # noqa: DTZ001  # of UTC
targets = st.sampled_from(["Kinesis_20131202.PutRecords", "Firehose_20150804.PutRecordBatch"])


def signed_by_the_library(  # noqa: PLR0913, PLR0917  # all that a signature depends on
    url: str, region: str, service: str, key: ReadOnlyCredentials, target: str, body: bytes,
    moment: datetime,
) -> str:  # fmt: skip
    headers = {"Content-Type": sigv4.CONTENT_TYPE, "X-Amz-Target": target}
    request = AWSRequest("POST", url, headers, body)
    with mock.patch.object(auth, "get_current_datetime", return_value=moment):
        auth.SigV4Auth(key, service, region).add_auth(request)
    return str(request.headers["Authorization"])


@given(
    urls, st.from_regex(r"[a-z]{2}-[a-z]{4,9}-[1-9]", fullmatch=True), keys, targets, st.binary(),
    moments,
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_a_signature_is_the_library_s(  # noqa: PLR0913, PLR0917  # as above
    url: str, region: str, key: ReadOnlyCredentials, target: str, body: bytes, moment: datetime
) -> None:
    signer = Signer(url, region, "kinesis")
    at = moment.replace(tzinfo=UTC).timestamp()
    headers = signer.sign(key, target, body, at).headers()
    expected = signed_by_the_library(url, region, "kinesis", key, target, body, moment)
    assert expected == headers["Authorization"]
    assert f"{moment:%Y%m%dT%H%M%SZ}" == headers["X-Amz-Date"]
    assert headers.get("X-Amz-Security-Token") == key.token


CHANGES = st.one_of(
    st.tuples(st.just("access"), st.sampled_from("ab")),
    st.tuples(st.just("secret"), st.sampled_from("cd")),
    st.tuples(st.just("token"), st.sampled_from([None, "t", "u"])),
    st.tuples(st.just("action"), st.sampled_from(["PutRecord", "PutRecords"])),
    st.tuples(st.just("day"), st.integers(21, 23)),
    st.tuples(st.just("second"), st.integers(0, 2)),
)


@given(st.lists(CHANGES, min_size=2, max_size=12))
@settings(max_examples=100, deadline=None)
def test_what_is_kept_of_one_signature_signs_for_no_other(changes: list[tuple[str, Any]]) -> None:
    url = "https://k.example/"
    signer = Signer(url, "eu-west-1", "kinesis")
    now: dict[str, Any] = {
        "access": "a",
        "secret": "c",
        "token": None,
        "action": "Put",
        "day": 21,
        "second": 0,
    }
    for name, value in changes:
        now[name] = value
        key = ReadOnlyCredentials(now["access"], now["secret"], now["token"])
        target, body = f"Kinesis_20131202.{now['action']}", name.encode()
        moment = datetime(2026, 11, now["day"], 23, 59, now["second"], tzinfo=UTC)
        signed = signer.sign(key, target, body, moment.timestamp() + 0.5)
        expected = signed_by_the_library(url, "eu-west-1", "kinesis", key, target, body, moment)
        headers = signed.headers()
        assert expected == headers["Authorization"]
        assert (target, key.token) == (
            headers["X-Amz-Target"],
            headers.get("X-Amz-Security-Token"),
        )
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        assert lines.encode() == signed.fields()


@pytest.mark.parametrize("odd", ["a\r\nb", "a\nb", "a\rb", "a\0b", "a\u2028b"])
def test_a_head_by_hand_has_no_odd_lines(odd: str) -> None:
    signer = Signer("https://a.example", "us-east-1", "kinesis")
    for keys in (ReadOnlyCredentials(odd, "b", None), ReadOnlyCredentials("a", "b", odd)):
        assert signer.sign(keys, "T.Put", b"", 0.0).fields() is None


@pytest.mark.parametrize(
    ("expected", "url"),
    [
        ("a.example", "https://a.example/"),
        ("a.example", "https://a.example:443"),
        ("a.example:80", "https://a.example:80"),
        ("a.example:443", "http://a.example:443"),
        ("a.example", "http://A.example:80/x"),
        ("[::1]:4566", "http://[::1]:4566"),
    ],
)
def test_the_host_that_is_signed_is_the_one_that_is_sent(expected: str, url: str) -> None:
    signer = Signer(url, "us-east-1", "kinesis")
    headers = signer.sign(ReadOnlyCredentials("a", "b", None), "T.Put", b"", 0.0).headers()
    assert expected == headers["Host"]


def test_a_secret_is_in_no_header() -> None:
    signer = Signer("https://a.example", "us-east-1", "kinesis")
    headers = signer.sign(
        ReadOnlyCredentials("AKIA", "the-secret", "t"), "T.Put", b"", 0.0
    ).headers()
    assert not any("the-secret" in value for value in headers.values())
