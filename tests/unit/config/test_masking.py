"""What looks like a secret is in no message, wherever somebody has put it."""

import contextlib
import json
import os
import random
import re
import string
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.cli import main
from forwarder.config import masking
from tests.configurations import SMALL, SMALL_WORKER

SECRETS = {
    "access key id": "AKIAIOSFODNN7EXAMPLE",
    "session's key id": "ASIAQWERTYUIOPASDFGH",
    "secret access key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "token": "FwoGZXIvYXdzEJr9eXampl3T0ken4Tests0nly7xQ2b8Kc5Vn1Mz6Ld3Wp9",
    "web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ0ZXN0In0.c2lnbmF0dXJlMTIzNDU2",
    "API key": "us1-0123456789abcdef0123456789abcdef",
    "hexadecimal": "9f86d081884c7d659a2feaa0c55ad015",
    "of a forge": "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
}

Place = Callable[[Path, str], list[str]]


def _files(folder: Path, connection: str, worker: str = SMALL_WORKER) -> list[str]:
    (folder / "connections").mkdir()
    (folder / "connections" / "acme.yaml").write_text(connection)
    (folder / "forwarder.yaml").write_text(worker)
    return ["check", "--config", "forwarder.yaml"]


def _value(text: str) -> Place:
    return lambda folder, secret: _files(folder, text.replace("SECRET", secret))


def _worker(text: str) -> Place:
    return lambda folder, secret: _files(folder, SMALL, text.replace("SECRET", secret))


def _named_file(folder: Path, secret: str) -> list[str]:
    arguments = _files(folder, SMALL)
    name = secret.replace("/", "-")
    (folder / "connections" / f"{name}.yaml").write_text("name: x\n")
    (folder / "connections" / f"{name}.yml").write_text("name: x\n")
    return arguments


WORKING = SMALL_WORKER.rstrip("\n}") + ", {}}}\n"
PLACES: dict[str, Place] = {
    "a key": _value(f"{SMALL}SECRET: x\n"),
    "a key of a section": _value(f"{SMALL}credentials: {{SECRET: x}}\n"),
    "a key without a space": _value(f"{SMALL}credentials:\n  secret_access_key:SECRET\n"),
    "a value that is refused": _value(SMALL.replace("us-east-1", "SECRET")),
    "a choice": _value(f"{SMALL}status: SECRET\n"),
    "a flag": _value(f"{SMALL}settings: {{send_as_batch: SECRET}}\n"),
    "an amount": _value(f"{SMALL}batching: {{max_age: SECRET}}\n"),
    "a number": _value(f"{SMALL}batching: {{max_events: SECRET}}\n"),
    "a time": _value(f"{SMALL}deliver_from: SECRET\n"),
    "a text in the place of a list": _value(f"{SMALL}match: {{application: SECRET}}\n"),
    "a text in the place of a section": _value(f"{SMALL}credentials: SECRET\n"),
    "a list": _value(f"{SMALL}match: {{environment: [SECRET]}}\n"),
    "a name": _value(SMALL.replace("acme", "SECRET")),
    "a stream": _value(SMALL.replace("stream_name: acme", "stream_name: SECRET")),
    "an endpoint": _value(f"{SMALL}  endpoint_url: https://me:SECRET@host\n"),
    "an endpoint's query": _value(f"{SMALL}  endpoint_url: https://host/?key=SECRET\n"),
    "a role": _value(f"{SMALL}credentials: {{role_arn: SECRET}}\n"),
    "an excluded path": _value(f"{SMALL}settings: {{metadata_field_exclusion: [events.SECRET]}}\n"),
    "a text that is shown": _value(f"{SMALL}settings: {{unique_id: SECRET}}\n"),
    "a variable": _value(SMALL.replace("us-east-1", '"${SECRET}"')),
    "a variable's default": _value(SMALL.replace("us-east-1", '"${REGION:-SECRET}"')),
    "a file's path": _value(SMALL.replace("us-east-1", '"${file:/run/SECRET}"')),
    "broken syntax": _value(f"{SMALL}credentials: [SECRET\n"),
    "an alias": _value(f"{SMALL}credentials: *SECRET\n"),
    "a tag": _value(f"{SMALL}credentials: !SECRET x\n"),
    "broken quotes": _value(f'{SMALL}credentials: "SECRET" SECRET\n'),
    "a broker": _worker(SMALL_WORKER.replace("localhost:9092", "me:SECRET@localhost:9092")),
    "a topic": _worker(SMALL_WORKER.replace("raw-events", "SECRET/x, SECRET, SECRET")),
    "a key file": _worker(
        SMALL_WORKER.replace("}", ", security: {protocol: SSL, ca_file: SECRET}}")
    ),
    "the folder of connections": _worker(f"{SMALL_WORKER}connections: SECRET\n"),
    "a file's name": _named_file,
    "an argument": lambda _, secret: ["check", "--config", secret],
    "an unknown argument": lambda folder, secret: [*_files(folder, SMALL), secret],
    "an unknown option": lambda folder, secret: [*_files(folder, SMALL), f"--key={secret}"],
    "a command": lambda _, secret: [secret],
    "a source": lambda folder, secret: [
        *["run", "--connection", str(folder / "connections" / "acme.yaml"), "--sink", "out"],
        *(["--source", secret] if _files(folder, SMALL) else []),
    ],
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_secret_in_the_wrong_place_is_never_printed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: Place,
    secret: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = place(tmp_path, secret)
    for more in [[], ["--json"], ["--quiet"]] if arguments[0] == "check" else [[]]:
        with contextlib.suppress(SystemExit):
            main([*arguments, *more])
    printed = "".join(capsys.readouterr())
    assert printed
    for part in {secret, secret.replace("/", "-"), *secret.split("/")}:
        assert part[:12] not in printed


PASSWORDS = [
    ("kafka://me:hunter2@host", "kafka://****@host"),
    ("me:hunter2@host:9092", "****@host:9092"),
    ("me:hun/t:er2@host:9092", "****@host:9092"),
    ("password=hunter2", "password=****"),
    ("password: hunter2, x", "password: ****"),
    ("password: correct horse battery staple", "password: ****"),
    ("a: b\npassword: it's 1, 2; }\nc: d", "a: b\npassword: ****\nc: d"),
    ("password: 'it''s mine', x", "password: ****, x"),
    ("{'password': 'a b', 'x': 1}", "{'password': ****, 'x': 1}"),
    ('password="hun"ter2', "password=****"),
    ("password=${PW}hunter2", "password=****"),
    ("pass=hunter2hunter2", "pass=****"),
    ("keystorePass=hunter2", "keystorePass=****"),
    ("ssl.keystore.pass: hunter2", "ssl.keystore.pass: ****"),
    ("PGPASS=hunter2", "PGPASS=****"),
    ("passphrase: my-secret-phrase", "passphrase: ****"),
    ("pass_phrase: hunter2", "pass_phrase: ****"),
    ("pwd=Hunter2", "pwd=****"),
    ("secretKey%3Dhunter2", "secretKey%3D****"),
    ("x-api-key: hunter2", "x-api-key: ****"),
    ("https://user:p@ssw0rd-x@host", "https://****@host"),
    ("redis://:secret@host", "redis://****@host"),
    ("https://hunter2token@host/x", "https://****@host/x"),
    ("a:p@q@h1:9092,b:r@h2:9092 c", "****@h2:9092 c"),
    ("Authorization: Bearer x", "Authorization: ****"),
    ("Authorization: Basic x", "Authorization: ****"),
    ("with bearer abc.def, x", "with bearer ****, x"),
    ("sent Basic dXNlcjpwYXNz", "sent Basic ****"),
    ("AWS4-HMAC-SHA256 Signature=abc", "AWS4-HMAC-SHA256 Signature=****"),
    ("--pass hunter2 --config x", "--pass **** --config x"),
    ('--password "hun ter2" x', "--password **** x"),
    ("CredentialRetrievalError: password=hunter2", "CredentialRetrievalError: password=****"),
    ('"secret_key":"hun ter2"}', '"secret_key":****}'),
    ("--token hunter2 --config x", "--token **** --config x"),
    ('Module required username="a" password="b c";', 'Module required username="a" password=****;'),
    ("a -----BEGIN RSA PRIVATE KEY-----\nMIIE", "a ****"),
    ("passphrase_token='x", "passphrase_token=****"),
]
HARMLESS = [
    *("connections/acme-production1.yaml", "arn:aws:iam::111122223333:role/mparticle-kinesis-role"),
    *(
        "us-east-1",
        "AcmeProductionEventsForAnalytics2026-eu-west-1",
        "localhost:9092,127.0.0.1:9093",
    ),
    *("2026-01-31T12:00:00Z", "include_user_identity_change_events", "${ACME_SECRET_ACCESS_KEY}"),
    *("https://vpce-0123456789abcdef0-abcdefgh.kinesis.us-east-1.vpce.amazonaws.com", "a@b", "x:y"),
    *("secret_access_key", "password", "0d2f6f1e-58a2-4b9a-9d15-0e5c4f2f5a11", "password: ${NAME}"),
    *("/var/pytest-of-root/pytest-12/test_name_of_thing0/connections/acme12/b3", "orgid:1111"),
    "49590338271490256608559692538361571095921575989136588898",
    *("passenger: 12", "pass through", "bypass: on", "compass=north", "passed: 3", "tests pass"),
    *("password: ${NAME}, x", "{password: ${NAME}}", "CredentialRetrievalError: no file"),
    *("a basic rule", "Basic Authentication", "the bearer of it", "not authorized to perform: x"),
    *("Signature expired: 20260101T000000Z is earlier", "https://host/a@b", "bear: 2", "at 12:30"),
]


@pytest.mark.parametrize(("text", "masked"), PASSWORDS)
def test_a_value_beside_the_name_of_a_secret_is_hidden(text: str, masked: str) -> None:
    assert masked == masking.mask(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays_readable(text: str) -> None:
    assert text == masking.mask(text)


def test_nearly_every_random_key_is_known_as_one() -> None:
    chance = random.Random(7)  # noqa: S311  # made-up keys
    letters = string.ascii_letters + string.digits + "/+"
    keys = ["".join(chance.choices(letters, k=40)) for _ in range(2_000)]
    assert 2 > sum(key in masking.mask(f'is "{key}"') for key in keys)


@pytest.mark.parametrize(
    "unit",
    [
        *["a:b/", "eyJ-", "secret", "password=", "-----BEGIN ", "Aa1", '"secret":"\\', "--token "],
        *["a/", "://", "://a", "//:a", "a:b", "a@", "pass", "pass ", "pass:${", "Basic "],
        *["password:'", "--pwd '", "'pass':'", "pwd %3d", "us1-0123/", f"{'aB3' * 13}/"],
        *["basic a", "bearer\t"],
    ],
)
def test_a_long_text_is_looked_through_without_looking_back_far(unit: str) -> None:
    assert isinstance(masking.mask((unit * 65_536)[:65_536]), str)


def test_what_is_written_in_a_file_is_noted_and_no_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    keys = "credentials: {access_key_id: AKIAIOSFODNN7EXAMPLE, secret_access_key: hunter2}\n"
    given = f"{SMALL}{keys}settings: {{unique_id: {SECRETS['secret access key']}}}\n"
    assert 0 == main([*_files(tmp_path, given), "--quiet"])
    place = f"note: connections{os.sep}acme.yaml:"
    written = "is written in the file; take it from ${NAME} or ${file:PATH}"
    looks = "looks like a secret, which this key is not for; if it is one, move it"
    assert [
        f"{place}6: credentials.access_key_id: {written}",
        f"{place}6: credentials.secret_access_key: {written}",
        f"{place}7: settings.unique_id: {looks}",
    ] == capsys.readouterr().out.splitlines()
    main([*_files_again(tmp_path), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert 3 == len(document["notes"])


def _files_again(folder: Path) -> list[str]:
    return ["check", "--config", str((folder / "forwarder.yaml").relative_to(folder))]


@given(st.lists(st.text("abé", max_size=6), max_size=8), st.text("abé ", max_size=40))
def test_known_secrets_are_hidden_as_one_expression_of_them_all_would(
    values: list[str], text: str
) -> None:
    known = masking.KnownSecrets()
    known.add(values)
    longest_first = sorted(filter(None, values), key=len, reverse=True)
    pattern = "|".join(map(re.escape, longest_first)) or "(?!)"
    assert re.sub(pattern, "****", text) == known.mask(text)


def test_secrets_that_become_known_later_are_hidden_with_the_others() -> None:
    known = masking.KnownSecrets()
    known.add(["hunter2"])
    known.add(["", "no"])
    assert "**** and ****" == known.mask("hunter2 and no")


def test_a_text_costs_its_own_length_however_many_secrets_there_are() -> None:
    text = "x" * 200
    looked: list[int] = []
    for count in (10, 1_000):
        known = masking.KnownSecrets()
        known.add(f"us1-{number:032x}" for number in range(count))
        calls = 0

        def note(_: FrameType, event: str, __: object) -> None:
            nonlocal calls
            calls += event in {"call", "c_call"}

        sys.setprofile(note)
        known.mask(text)
        sys.setprofile(None)
        looked.append(calls)
    assert looked[0] == looked[1]


@pytest.mark.parametrize(
    "value",
    [
        "password=hunter2-hunter2",
        "secret:hunter2-hunter2",
        f"{'word ' * 9}{SECRETS['secret access key']}",
        f"{'word ' * 9}{SECRETS['token']}",
    ],
)
def test_neither_what_is_beside_a_name_nor_what_is_cut_off_is_printed_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert 2 == main(_files(tmp_path, SMALL.replace("us-east-1", f'"{value}"')))
    printed = "".join(capsys.readouterr())
    assert "sink.region" in printed
    assert "hunter2" not in printed
    assert not [text for text in SECRETS.values() if text[:6] in printed]
