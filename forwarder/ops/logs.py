"""One log for the program and its libraries: structured, with stable event names, no secrets.

``event`` names what happened (``lane.status``), the other keys say to whom. What libraries log
arrives as the event ``library`` with their text in ``message``. Lines are written by a thread of
their own (log_writer.py): nobody who logs waits for the log, or fails with it.
"""

import json
import logging
import math
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterable, Mapping
from typing import TextIO

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from forwarder.config import masking
from forwarder.ops.log_writer import FLUSH_SECONDS, LogWriter, QueuedStream, writer_of

MASK = masking.MASK

SECRET_KEY = re.compile(
    rf"secret|{masking.PASSWORDS}|token|authorization|private_key|access_key(?!_id)|api_key",
    re.IGNORECASE,
)
"""Keys whose values are never shown, whoever logs them."""

PLAIN = (bool, int, float, type(None))

LIBRARY_LEVEL = logging.WARNING
"""Below it libraries write a line per request, and botocore's debug log holds signatures."""

LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)

FRAMES = 20
"""Most frames of a traceback in a JSON line: the innermost ones."""

MAX_TEXT = 16 * 1024
"""Characters of one value in a line; what is longer is cut, and says so."""

DEEPEST = 8
"""Levels of lists and mappings in a value; what lies deeper is shown as one text."""

LARGEST = 2**64
"""Beyond it a number is shown as text: few readers of JSON take it, and its digits have no end."""


class Redaction:
    """Mask secrets in everything a log line holds; the last step before rendering.

    Values come out plain: whatever JSON cannot say, or what has no text, is replaced by one.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Mask the given values wherever they occur, and everything under a secret's key."""
        self._known = masking.KnownSecrets()
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Mask these values, too: keys that were rotated."""
        self._known.add(form for value in secrets if value for form in _spellings(value))

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        """Return the line with every secret masked and every value plain."""
        return {_text(key): self._masked(key, value, 0) for key, value in event.items()}

    def text(self, text: str) -> str:
        """Mask every known secret in a text."""
        return self._known.mask(text)

    def _masked(self, key: object, value: object, depth: int) -> object:
        if SECRET_KEY.search(_text(key)) and value is not None:
            return MASK
        try:
            return self._clean(value, depth)
        except Exception as error:  # noqa: BLE001  # a value's own code may do anything
            return _unshown(value, error)

    def _clean(self, value: object, depth: int) -> object:
        if isinstance(value, PLAIN) and _fits(value):
            return value
        if isinstance(value, Mapping) and depth < DEEPEST:
            return {_text(k): self._masked(k, inner, depth + 1) for k, inner in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)) and depth < DEEPEST:
            return [self._masked("", inner, depth + 1) for inner in value]
        masked = self.text(_text(value))
        left_out = len(masked) - MAX_TEXT
        return masked if left_out <= 0 else f"{masked[:MAX_TEXT]}… ({left_out} characters more)"


def _fits(value: object) -> bool:
    """Tell whether JSON has a number like this one."""
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or abs(value) < LARGEST


def _text(value: object) -> str:
    """Return the value's own text, or what kind of value has none."""
    try:
        return hex(value) if isinstance(value, int) and not _fits(value) else str(value)
    except Exception as error:  # noqa: BLE001  # a value's own code may do anything
        return _unshown(value, error)


def _unshown(value: object, error: Exception) -> str:
    return f"<{type(value).__name__}, which cannot be shown: {type(error).__name__}>"


def _spellings(value: str) -> tuple[str, ...]:
    """Return the value as it is, as repr writes it, and as an exception's one line has it."""
    return value, repr(value)[1:-1], " ".join(value.split()) or value


_REDACTION = Redaction()
"""That of the log as it was configured last."""


_WRITER: LogWriter | None = None
"""What writes that log's lines."""


def hide(secrets: Iterable[str]) -> None:
    """Mask values that became known after the log was configured."""
    _REDACTION.add(secrets)


class _FromLibraries(logging.Handler):
    """Pass what libraries log through the standard module on to the program's log."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        level = max(known for known in LEVELS if known <= max(record.levelno, logging.DEBUG))
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001  # a bad format string must not stop the worker
            message = f"{_text(record.msg)} ({_unshown(record.args, error)})"
        log.log(level, "library", logger=record.name, message=message, exc_info=record.exc_info)


class _LineLogger:
    """What structlog hands a rendered line to, under whatever level."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer

    def msg(self, line: str) -> None:
        """Queue a line."""
        self._writer.put(line + "\n")

    debug = info = warning = error = critical = exception = fatal = log = warn = failure = err = msg


class _Rendered:
    """Render a line; one that no step can render is replaced by its name alone."""

    def __init__(self, steps: Iterable[Processor]) -> None:
        self._steps = tuple(steps)

    def __call__(self, logger: WrappedLogger, level: str, event: EventDict) -> str:
        name = _text(event.get("event"))
        try:
            rendered: object = event
            for step in self._steps:
                rendered = step(logger, level, rendered)  # type: ignore[arg-type]  # the last gives text
        except Exception as error:  # noqa: BLE001  # logging decides about nothing
            return json.dumps({"level": level, "event": name, "unrendered": _text(error)})
        return str(rendered)


def configure(
    level: str = "info",
    form: str = "json",
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
) -> None:
    """Send everything at or above ``level`` to ``stream`` (standard error).

    ``form`` is ``json`` (a line each) or ``console`` (for people, coloured on a terminal);
    ``secrets`` are the values that must never appear, whatever they are part of.
    """
    global _REDACTION, _WRITER  # noqa: PLW0603  # there is one log, and ``hide`` means it
    _REDACTION = Redaction(secrets)
    out = stream or sys.stderr
    former, writer = _WRITER, writer_of(out)
    _WRITER = writer
    if former is not None and former is not writer:
        former.close()
    threshold = logging.getLevelNamesMapping()[level.upper()]
    rendered = _Rendered(_steps(form, _REDACTION, colors=colored(out)))
    structlog.configure(
        processors=[rendered],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: _LineLogger(writer),
        cache_logger_on_first_use=False,
    )

    def notice(lines: int, why: str) -> str:
        missing: EventDict = {"event": "log.dropped", "lines": lines, "reason": why}
        return rendered(None, "warning", missing) + "\n"

    writer.notice = notice
    stands_for: object = out
    if isinstance(stands_for, QueuedStream):
        stands_for.mask = _REDACTION.text
        _take_over_hooks()
    _take_over_libraries(max(threshold, LIBRARY_LEVEL))


def flush(seconds: float = FLUSH_SECONDS) -> bool:
    """Wait until what was logged is written; tell whether it was within ``seconds``."""
    return _WRITER is None or _WRITER.flush(seconds)


def masked(text: str) -> str:
    """Return a text without the secrets that the log knows."""
    return _REDACTION.text(text)


def note_ignored(signal: str) -> None:
    """Say that a signal was ignored. Caller: the program's own handler of it, at any moment."""
    if _WRITER is not None:
        structlog.get_logger().info("signal.ignored", signal=signal)


def crashed(error: BaseException) -> None:
    """Say which fault of the program ended a command, masked as every line is."""
    if _WRITER is not None:
        structlog.get_logger().critical("command.crashed", exc_info=error)
    else:
        traceback.print_exception(error)


def colored(out: TextIO | None) -> bool:
    """Tell whether a stream may be given colours (https://no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return not plain and out is not None and out.isatty()


def _steps(form: str, redaction: Redaction, *, colors: bool) -> list[Processor]:
    steps: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if form == "console":
        console = structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback
        )
        return [*steps, structlog.processors.format_exc_info, redaction, console]
    json_lines = structlog.processors.JSONRenderer(_dumped)
    return [*steps, structured_exception, redaction, json_lines]


def structured_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace ``exc_info`` by one line, ``exception``, and its frames, ``traceback``."""
    error = _error(event.pop("exc_info", None))
    if error is not None:
        event["exception"] = " <- ".join(_one_line(cause) for cause in _chain(error))
        frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
        event["traceback"] = [f"{f.filename}:{f.lineno} {f.name}" for f in frames]
    return event


def _error(exc_info: object) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        found = exc_info[1]
        return found if isinstance(found, BaseException) else None
    return sys.exc_info()[1] if exc_info else None


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and not any(current is seen for seen in chain):
        chain.append(current)
        hidden = current.__suppress_context__
        current = current.__cause__ or (None if hidden else current.__context__)
    return chain


def _one_line(error: BaseException) -> str:
    text = " ".join(_text(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _dumped(event: EventDict, **_: object) -> str:
    first = {key: event.pop(key) for key in ("timestamp", "level", "event") if key in event}
    return json.dumps({**first, **event}, separators=(",", ":"))


def _take_over_hooks() -> None:
    """Log what nobody caught in a thread, or in a finalizer, like everything else."""

    def thread(missed: threading.ExceptHookArgs) -> None:
        if not isinstance(missed.exc_value, SystemExit):
            name = missed.thread.name if missed.thread is not None else ""
            structlog.get_logger().error("thread.failed", thread=name, exc_info=missed.exc_value)

    def finalizer(missed: "sys.UnraisableHookArgs") -> None:
        what = missed.err_msg or "an exception was ignored"
        where = _text(missed.object)
        structlog.get_logger().warning(
            "exception.ignored", message=f"{what}: {where}", exc_info=missed.exc_value
        )

    threading.excepthook = thread
    sys.unraisablehook = finalizer


def _take_over_libraries(level: int) -> None:
    root = logging.getLogger()
    for former in [h for h in root.handlers if isinstance(h, _FromLibraries)]:
        root.removeHandler(former)
    root.addHandler(_FromLibraries())
    root.setLevel(level)
    logging.captureWarnings(capture=True)
