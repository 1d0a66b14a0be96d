import asyncio
import io
import json
import logging
import sys
import threading
import warnings
from typing import Any, NoReturn

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from forwarder.ops import log_writer, logs

SECRET = 'wJalr"XUtn\nFEMI'


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    logs.flush()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def configured(level: str = "info", form: str = "json") -> io.StringIO:
    stream = io.StringIO()
    logs.configure(level, form, [SECRET, ""], stream)
    return stream


def test_a_line_is_one_json_object_that_begins_with_time_level_and_event() -> None:
    stream = configured()
    structlog.get_logger().info("lane.status", connection="acme", batches=3)
    line = lines(stream)[0]
    assert ["timestamp", "level", "event"] == list(line)[:3]
    assert ("info", "lane.status", "acme", 3) == (
        line["level"],
        line["event"],
        line["connection"],
        line["batches"],
    )


def test_what_is_below_the_level_is_not_written() -> None:
    stream = configured("warning")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert ["loud"] == [line["event"] for line in lines(stream)]


@pytest.mark.parametrize(
    "key",
    [
        *["secret_access_key", "password", "sasl_plain_password", "SessionToken", "api_key"],
        *["passphrase", "pwd", "key_pass", "keystorePass"],
    ],
)
def test_the_value_of_a_secret_key_never_appears(key: str) -> None:
    stream = configured()
    structlog.get_logger().info("start", security={key: "hunter2"}, **{key: "hunter2"})
    logs.flush()
    assert "hunter2" not in stream.getvalue()
    assert lines(stream)[0][key] == logs.MASK


def test_the_id_of_an_access_key_may_appear() -> None:
    stream = configured()
    structlog.get_logger().info("start", access_key_id="AKIA123")
    assert lines(stream)[0]["access_key_id"] == "AKIA123"


def fail(text: str) -> NoReturn:
    raise OSError(text)


class Holder:
    def __repr__(self) -> str:
        return f"Holder({SECRET!r})"


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_configured_secret_never_appears_wherever_it_is_put(form: str) -> None:
    stream = configured(form=form)
    log = structlog.get_logger()
    event = f"with {SECRET}"
    log.info(event, text=f"a{SECRET}b", inside=[{"x": (SECRET,)}], odd=Holder())
    try:
        fail(SECRET)
    except OSError as error:
        log.exception("failed", error=error, error_repr=repr(error))
    logging.getLogger("aiokafka").warning("cannot use %s", SECRET)
    logs.flush()
    written = stream.getvalue()
    assert written.count(logs.MASK) >= 7
    for spelling in (SECRET, repr(SECRET)[1:-1], json.dumps(SECRET)[1:-1], "wJalr"):
        assert spelling not in written


@given(st.text(min_size=1), st.text(), st.text())
def test_no_text_around_a_secret_brings_it_back(secret: str, before: str, after: str) -> None:
    redaction = logs.Redaction([secret])
    line = redaction(None, "info", {"event": before + secret + after})
    assert logs.MASK in line["event"]
    assert secret not in line["event"].replace(logs.MASK, "") or secret in before + after


def test_a_secret_that_became_known_later_never_appears_either() -> None:
    stream = configured()
    logs.hide(["AKIAROTATED"])
    structlog.get_logger().info("x", note=f"signed by AKIAROTATED, not by {SECRET}")
    assert "signed by ****, not by ****" == lines(stream)[0]["note"]


def test_an_exception_is_one_line_and_a_list_of_frames() -> None:
    stream = configured()
    try:
        try:
            fail("inner\nline")
        except OSError as error:
            msg = "outer"
            raise ValueError(msg) from error
    except ValueError:
        structlog.get_logger().exception("sink.failed")
    line = lines(stream)[0]
    assert line["exception"] == "ValueError: outer <- OSError: inner line"
    assert line["traceback"][-1].endswith("test_an_exception_is_one_line_and_a_list_of_frames")


def test_what_libraries_warn_of_arrives_as_one_event_of_a_stable_name() -> None:
    stream = configured("debug")
    library = logging.getLogger("aiokafka.conn")
    library.info("chatter")
    library.warning("retrying %s", "broker 1")
    try:
        fail("gone")
    except OSError:
        library.exception("odd level")
    assert [("library", "warning", "retrying broker 1"), ("library", "error", "odd level")] == [
        (line["event"], line["level"], line["message"]) for line in lines(stream)
    ]
    assert lines(stream)[1]["exception"] == "OSError: gone"
    assert lines(stream)[0]["logger"] == "aiokafka.conn"


def test_warnings_go_to_the_log() -> None:
    stream = configured()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old call", DeprecationWarning, stacklevel=1)
    assert "old call" in lines(stream)[0]["message"]


class Broken:
    def __del__(self) -> None:
        msg = f"with {SECRET}"
        raise RuntimeError(msg)


def test_what_nobody_caught_is_a_line_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    log_writer.install()
    logs.configure("info", "json", [SECRET])
    thread = threading.Thread(target=fail, args=(SECRET,), name="worker")
    thread.start()
    thread.join()
    Broken()

    async def main() -> None:
        asyncio.get_running_loop().call_soon(fail, SECRET)
        await asyncio.sleep(0)

    logging.getLogger().handlers[:] = logging.getLogger().handlers[-1:]
    asyncio.run(main())
    found = lines(stream)
    assert ["thread.failed", "exception.ignored", "library"] == [line["event"] for line in found]
    assert ["OSError: ****", "RuntimeError: with ****", "OSError: ****"] == [
        line["exception"] for line in found
    ]
    assert "wJalr" not in stream.getvalue()
    log_writer.uninstall()


def test_a_library_may_use_levels_of_its_own() -> None:
    stream = configured()
    logging.getLogger("odd").log(35, "between warning and error")
    assert lines(stream)[0]["level"] == "warning"


def test_configuring_twice_writes_every_line_once() -> None:
    configured()
    stream = configured()
    logging.getLogger("aiokafka").warning("once")
    assert ["once"] == [line["message"] for line in lines(stream)]


@pytest.mark.parametrize("value", [2**80, "\ud800", b"\xff", float("inf"), {1: {2}}, object()])
def test_no_value_breaks_the_log(value: object) -> None:
    stream = configured()
    structlog.get_logger().info("odd", value=value)
    assert lines(stream)[0]["event"] == "odd"


def refuse(value: object) -> NoReturn:
    raise ValueError(value)


class Silent:
    def __str__(self) -> str:
        msg = "no text"
        raise RuntimeError(msg)

    __repr__ = __str__


class Wrong(dict[str, int]):
    def items(self) -> NoReturn:
        raise KeyError


CYCLE: list[object] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    "value",
    [Silent(), [Silent()], {Silent(): 1}, Wrong(), CYCLE, 10**5000, "x" * 10**6],
    ids=["silent", "inside", "key", "wrong", "cycle", "digits", "long"],
)
def test_what_cannot_be_rendered_costs_nobody_anything(value: object, form: str) -> None:
    stream = configured(form=form)
    log = structlog.get_logger()
    # Without pytest's own handler, which raises what a program's does not.
    logging.getLogger().handlers[:] = logging.getLogger().handlers[-1:]
    log.info("odd", value=value)
    try:
        refuse(value)
    except ValueError:
        log.exception("failed")
    logging.getLogger("library").warning("%d of %s", value, value)
    log.info("goes on")
    logs.flush()
    written = stream.getvalue()
    begins = [written.index(text) for text in ("odd", "failed", "library", "goes on")]
    assert sorted(begins) == begins
    assert len(written) < 200_000


def test_every_line_is_strict_json() -> None:
    stream = configured()
    structlog.get_logger().info("odd", value=[float("nan"), float("inf"), 2**70])
    logs.flush()

    (line,) = stream.getvalue().splitlines()
    assert ["nan", "inf", hex(2**70)] == json.loads(line, parse_constant=refuse)["value"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "colored"),
    [
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, True),
        ({"TERM": "dumb"}, False),
    ],
)
def test_a_terminal_gets_colours_unless_somebody_asks_for_none(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], *, colored: bool
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    stream = Terminal()
    logs.configure("info", "console", [], stream)
    structlog.get_logger().info("lane.status")
    logs.flush()
    assert colored == ("\x1b[" in stream.getvalue())


def test_what_is_no_terminal_gets_no_colours() -> None:
    stream = configured(form="console")
    structlog.get_logger().info("lane.status")
    logs.flush()
    assert "\x1b[" not in stream.getvalue()


def test_the_console_form_is_for_people() -> None:
    stream = configured(form="console")
    structlog.get_logger().info("lane.status", connection="acme")
    logs.flush()
    assert "lane.status" in stream.getvalue()
    assert "connection=acme" in stream.getvalue()
