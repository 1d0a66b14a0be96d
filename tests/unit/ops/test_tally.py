"""What a run over a file says of itself, and its exit code."""

import asyncio
from pathlib import Path

import pytest

from forwarder import app, cli
from forwarder.config.connection import Connection, Match, Status
from forwarder.ops.tally import MAX_CONNECTIONS_NAMED, MAX_VALUES_COUNTED, Tally
from tests import builders
from tests.builders import connection, event, upload


def ran(tmp_path: Path, lanes: list[Connection], *lines: object) -> Tally:
    """Return the totals of a run over these lines."""
    path = tmp_path / "in.ndjson"
    path.write_bytes(b"".join(builders.encoded(line) + b"\n" for line in lines))
    return asyncio.run(app.run_file(lanes, str(path), tmp_path / "out"))


def test_why_uploads_matched_nothing_is_told_by_connection_and_never_a_key(tmp_path: Path) -> None:
    match = Match(
        environment=frozenset({"production"}),
        application=frozenset({"app"}),
        api_key=frozenset({"k1"}),
    )
    fed = [
        upload(event(), environment="development", api_key="geheim"),
        upload(event(), environment="\x1b[31m", application_info={"package": "app"}, api_key="k1"),
    ]
    text = ran(tmp_path, [connection("acme", match=match)], *fed).text()
    assert (
        '  no match with acme: api_key 1; application 1 (none 1); environment 2 ("\\x1b[31m" 1, '
        '"development" 1)'
    ) in text.splitlines()
    assert "geheim" not in text


def test_it_is_told_which_settings_left_events_out(tmp_path: Path) -> None:
    lanes = [connection("acme", send_screen_views=False), connection("rests", send_as_batch=False)]
    lanes[1] = Connection(lanes[1].name, lanes[1].sink, status=Status.INACTIVE)
    views, changes = event("screen_view"), event("user_attribute_change")
    text = ran(tmp_path, lanes, upload(views, views, event(), changes)).text()
    assert (
        "acme: 1 events in 1 batch delivered, 3 events filtered out "
        "(send_screen_views 2, include_user_attribute_change_events 1)"
    ) in text.splitlines()
    assert "rests: 0 events in 0 batches delivered, 4 events filtered out (status 4)" in text


def test_many_connections_and_many_values_do_not_fill_the_screen(tmp_path: Path) -> None:
    lanes = [
        connection(f"c{number:03}", match=Match(environment=frozenset({"x"})))
        for number in range(50)
    ]
    fed = [upload(event(), environment=f"e{number}") for number in range(MAX_VALUES_COUNTED + 5)]
    tally = ran(tmp_path, lanes, *fed)
    lines = [line for line in tally.text().splitlines() if "no" in line and line[:1] == " "]
    assert MAX_CONNECTIONS_NAMED + 1 == len(lines)
    assert "  nor with 40 connections more" == lines[-1]
    assert 'c000: environment 1005 ("..." 5, "e0" 1, "e1" 1, others 998)' in lines[0]


@pytest.mark.parametrize(
    ("useless", "lines"),
    [
        (False, []),
        (False, [upload(event())]),
        (False, [b"{", upload(device="d")]),
        (True, [b"{", b"5"]),
        (True, [b"not JSON", {"mpid": 1}]),
    ],
)
def test_a_run_is_useless_where_not_one_line_could_be_used(
    tmp_path: Path,
    useless: bool,  # noqa: FBT001
    lines: list[object],
) -> None:
    tally = ran(tmp_path, [connection("acme")], *lines)
    assert useless == tally.is_useless()
    assert useless == ("not one of 2 lines could be used as an upload" in tally.text())


@pytest.mark.parametrize(
    ("code", "content"),
    [(0, b""), (0, b"\n\n"), (0, b'{"events":[{}]}\nx\n'), (1, b"x\n5\n"), (1, b'{"mpid":1}\n')],
)
def test_the_exit_code_tells_whether_any_line_could_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: int, content: bytes
) -> None:
    (tmp_path / "in").write_bytes(content)
    (tmp_path / "c.yaml").write_text("name: acme\nsink: {type: file, path: unused}\n")
    words = ("--connection", "c.yaml", "--source", "in", "--sink", "out")
    asked = [str(tmp_path / word) if word[0] != "-" else word for word in words]
    assert code == cli.main(["run", *asked])
    assert bool(code) == ("could be used as an upload" in capsys.readouterr().err)
