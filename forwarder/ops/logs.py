"""One log for the program and its libraries: structured, with stable event names, no secrets.

``event`` names what happened (``lane.status``), the other keys say to whom. What libraries log
arrives as the event ``library`` with their text in ``message``.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from typing import TextIO

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

MASK = "****"

SECRET_KEY = re.compile(
    r"secret|passw|token|authorization|private_key|access_key(?!_id)|api_key", re.IGNORECASE
)
"""Keys whose values are never shown, whoever logs them."""

PLAIN = (bool, int, float, type(None))

LIBRARY_LEVEL = logging.WARNING
"""Below it libraries write a line per request, and botocore's debug log holds signatures."""

LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)

FRAMES = 20
"""Most frames of a traceback in a JSON line: the innermost ones."""


class Redaction:
    """Mask secrets in everything a log line holds; the last step before rendering."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Mask the given values wherever they occur, and everything under a secret's key."""
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Mask these values, too: keys that were rotated."""
        self._known |= {form for value in secrets if value for form in _spellings(value)}
        longest_first = sorted(self._known, key=len, reverse=True)
        self._pattern = (
            re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        )

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        """Return the line with every secret masked and every value plain."""
        return {key: self._masked(str(key), value) for key, value in event.items()}

    def _masked(self, key: str, value: object) -> object:
        if SECRET_KEY.search(key) and value is not None:
            return MASK
        return self._clean(value)

    def _clean(self, value: object) -> object:
        if isinstance(value, PLAIN):
            return value
        if isinstance(value, Mapping):
            return {str(key): self._masked(str(key), inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._clean(inner) for inner in value]
        text = str(value)
        return self._pattern.sub(MASK, text) if self._pattern else text


def _spellings(value: str) -> tuple[str, ...]:
    """Return the value as it is, as repr writes it, and as an exception's one line has it."""
    return value, repr(value)[1:-1], " ".join(value.split()) or value


_REDACTION = Redaction()
"""That of the log as it was configured last."""


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
            log.log(level, "library", logger=record.name, message=message, exc_info=record.exc_info)
        except Exception:  # noqa: BLE001  # a library's bad format string must not stop the worker
            self.handleError(record)


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
    global _REDACTION  # noqa: PLW0603  # there is one log, and ``hide`` means it
    _REDACTION = Redaction(secrets)
    out = stream or sys.stderr
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *_form(form, _REDACTION, colors=out.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    _take_over_libraries(max(threshold, LIBRARY_LEVEL))


def _form(form: str, redaction: Redaction, *, colors: bool) -> list[Processor]:
    if form == "console":
        console = structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback
        )
        return [structlog.processors.format_exc_info, redaction, console]
    return [structured_exception, redaction, structlog.processors.JSONRenderer(_dumped)]


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
    while current is not None and current not in chain:
        chain.append(current)
        hidden = current.__suppress_context__
        current = current.__cause__ or (None if hidden else current.__context__)
    return chain


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _dumped(event: EventDict, **_: object) -> str:
    first = {key: event.pop(key) for key in ("timestamp", "level", "event") if key in event}
    return json.dumps({**first, **event}, separators=(",", ":"))


def _take_over_libraries(level: int) -> None:
    root = logging.getLogger()
    for former in [h for h in root.handlers if isinstance(h, _FromLibraries)]:
        root.removeHandler(former)
    root.addHandler(_FromLibraries())
    root.setLevel(level)
    logging.captureWarnings(capture=True)
