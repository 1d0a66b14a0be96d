"""What is wrong with this machine's own AWS settings: variables, files, proxies, a process to run.

Called where the AWS library failed before it asked anybody. No destination is away then, and none
comes back by itself: somebody has to mend a variable or a file, and is told which.
"""

import contextlib
import errno
import os
import re
import ssl
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from botocore.exceptions import (
    BotoCoreError,
    ConfigParseError,
    ConnectionError,  # noqa: A004  # the library's own
    HTTPClientError,
    ProfileNotFound,
    SSLError,
)

from forwarder.config import masking

MAX_BUNDLE_BYTES = 16 * 1024 * 1024
"""Bytes of a file of certificate authorities; that of the HTTP library has 0.3 MiB."""
MAX_TOKEN_BYTES = 256 * 1024
"""Bytes of a file that holds a token; AWS takes 20,000 characters of a web identity's."""
MAX_SETTINGS_BYTES = 4 * 1024 * 1024
"""Bytes of AWS's own configuration and credentials files."""

_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_TOKENS = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
_FILES = {
    "AWS_CONFIG_FILE": "~/.aws/config",
    "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials",
}
_OLD_FILES = {
    "AWS_CREDENTIAL_FILE": (),
    "BOTO_CONFIG": ("/etc/boto.cfg", "~/.boto"),
}
"""What the chain still looks at for tools of before 2013; the paths where no variable names one."""
_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
_SCHEMES = {"", "http", "https"}
_MISSING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_OF_A_PATH = {
    *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR),
    *(errno.ENOEXEC, errno.ELOOP, errno.ENAMETOOLONG),
}


class LocalSettingFault(msgspec.Struct, frozen=True):
    """What is wrong here, and what to do; both name the variable or the file, and no secret."""

    what: str
    remedy: str


class LocalSettingError(Exception):
    """Something here must be mended first; raised before the library would read it."""

    def __init__(self, fault: LocalSettingFault) -> None:
        """Keep the fault; what is wrong is the error's text."""
        super().__init__(fault.what)
        self.fault = fault


def check_sizes() -> None:
    """Raise LocalSettingError if a file that the library reads whole is too large for that."""
    if fault := oversize_file(os.environ):
        raise LocalSettingError(fault)


def check_file(name: str, path: str, most: int) -> None:
    """Raise LocalSettingError if the file at ``path`` has no end, or more than ``most`` bytes.

    ``name`` is that of the setting, for people. Caller: the reader of the file, before it reads.
    """
    if what := _unbounded(path, most):
        raise LocalSettingError(_misnamed(name, path, what))


def keys_fault(environ: Mapping[str, str] | None = None) -> LocalSettingFault | None:
    """Return what is wrong with the access keys in the environment, once AWS rejects them."""
    return next(_keys(os.environ if environ is None else environ), None)


def fault_of(
    error: Exception, environ: Mapping[str, str] | None = None
) -> LocalSettingFault | None:
    """Return what on this machine made the library fail; None: nothing here did."""
    inner = error.kwargs.get("error") if isinstance(error, HTTPClientError) else None
    cause = inner if isinstance(inner, Exception) else error
    if isinstance(cause, LocalSettingError):
        return cause.fault
    known = os.environ if environ is None else environ
    if isinstance(error, ConnectionError):
        # Nobody was reached; that may be for want of a proxy that can be used.
        return next(_proxies(known), None)
    answered = cause is inner and isinstance(cause, UnicodeDecodeError)
    if answered or not _is_local(cause):
        return None
    found = next(local_setting_faults(known), None)
    return found or _unnamed(cause)


def local_setting_faults(environ: Mapping[str, str]) -> Iterator[LocalSettingFault]:
    """Yield whatever is wrong with the variables and the files that they name."""
    for look in (_keys, _tokens, _bundle, _files, _proxies):
        yield from look(environ)


def oversize_file(environ: Mapping[str, str]) -> LocalSettingFault | None:
    """Return what is wrong with a file that is too large to read, before anything reads it."""
    named = [(name, environ.get(name), MAX_TOKEN_BYTES) for name in _TOKENS]
    named += [
        (name, environ.get(name, usual), MAX_SETTINGS_BYTES) for name, usual in _FILES.items()
    ]
    for name, usual in _OLD_FILES.items():
        paths = (environ[name],) if name in environ else usual
        named += [(name, path, MAX_SETTINGS_BYTES) for path in paths]
    named.append(("AWS_CA_BUNDLE", environ.get("AWS_CA_BUNDLE"), MAX_BUNDLE_BYTES))
    for name, path, most in named:
        if path and (what := _unbounded(path, most)):
            return _misnamed(name, path, what)
    return None


def _misnamed(name: str, path: str, what: str) -> LocalSettingFault:
    return LocalSettingFault(f"{name} names {_shown(path)}, which {what}", f"correct {name}")


def _is_local(error: Exception) -> bool:
    """Tell whether an error comes from this machine, and not from the network or a service."""
    if isinstance(error, ssl.SSLError):
        # What loading certificates raises; a handshake's errors come wrapped by the HTTP client.
        return True
    if isinstance(error, OSError):
        # By class or name: what the network says may have any number.
        named = error.filename is not None and error.errno in _OF_A_PATH
        return named or isinstance(error, _MISSING)
    if isinstance(error, HTTPClientError | SSLError | ConnectionError):
        return False
    return isinstance(error, BotoCoreError | ValueError | UnicodeError)


def _unnamed(error: Exception) -> LocalSettingFault:
    """Say what an error says whose place none of the looks has found."""
    if isinstance(error, OSError) and isinstance(error.filename, str):
        what = f"{_shown(error.filename)} cannot be used ({error.strerror})"
        remedy = (
            "correct the path in the AWS config file (credential_process, say), or put it there"
        )
        return LocalSettingFault(what, remedy)
    if isinstance(error, ProfileNotFound):
        return LocalSettingFault(
            _said(error), "correct AWS_PROFILE, or add it to the AWS config file"
        )
    if isinstance(error, ConfigParseError):
        return LocalSettingFault(_said(error), "correct that file")
    remedy = "correct the AWS_… variable or the line of the AWS config file that says so"
    return LocalSettingFault(_said(error), remedy)


def _said(error: Exception) -> str:
    return masking.mask(" ".join(f"{type(error).__name__}: {error}".split())[:300])


def _keys(environ: Mapping[str, str]) -> Iterator[LocalSettingFault]:
    for name in _KEYS:
        if re.search(r"[\s\x00-\x1f\x7f]", environ.get(name, "")):
            what = f"{name} holds a line end, a blank or a control character"
            yield LocalSettingFault(what, f"set {name} again without it")


def _tokens(environ: Mapping[str, str]) -> Iterator[LocalSettingFault]:
    for name in _TOKENS:
        if path := environ.get(name):
            what = _unusable(path, MAX_TOKEN_BYTES) or _empty(path)
            if what:
                text = f"{name} names {_shown(path)}, which {what}"
                yield LocalSettingFault(text, f"mount the token there, or correct {name}")


def _bundle(environ: Mapping[str, str]) -> Iterator[LocalSettingFault]:
    if path := environ.get("AWS_CA_BUNDLE"):
        what = _unusable(path, MAX_BUNDLE_BYTES) or _no_authorities(path)
        if what:
            text = f"AWS_CA_BUNDLE names {_shown(path)}, which {what}"
            yield LocalSettingFault(text, "put the certificate authorities there, or correct it")


def _files(environ: Mapping[str, str]) -> Iterator[LocalSettingFault]:
    for name, usual in _FILES.items():
        path = environ.get(name, usual)
        # The library does without one that is not there.
        if Path(path).expanduser().exists() and (what := _unusable(path, MAX_SETTINGS_BYTES)):
            yield LocalSettingFault(f"{_shown(path)} ({name}) {what}", f"correct it, or {name}")


def _proxies(environ: Mapping[str, str]) -> Iterator[LocalSettingFault]:
    for name in _PROXIES:
        if (url := environ.get(name)) and not _is_proxy(url):
            what = f"{name} is no address of a proxy that can be used"
            yield LocalSettingFault(what, f"set {name} to http://HOST:PORT, or take it away")


def _is_proxy(url: str) -> bool:
    with contextlib.suppress(ValueError):
        parts = urlsplit(url if "://" in url else f"http://{url}")
        return parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    return False


def _unbounded(path: str, most: int) -> str:
    """Say that a file has no end, or a far one: a device or a pipe is read for ever."""
    try:
        found = Path(path).expanduser().stat()
    except (OSError, ValueError, RuntimeError):
        return ""
    if found.st_rdev == Path(os.devnull).stat().st_rdev:
        return ""  # how people say that there is none
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        return "is no file"
    return f"is larger than {most // 1024} KiB" if found.st_size > most else ""


def _unusable(path: str, most: int) -> str:
    if what := _unbounded(path, most):
        return what
    try:
        with Path(path).expanduser().open("rb") as opened:
            opened.read(1)
    except (OSError, ValueError) as error:
        return f"cannot be read ({getattr(error, 'strerror', None) or 'not a path'})"
    return ""


def _empty(path: str) -> str:
    return "" if _content(path, MAX_TOKEN_BYTES).strip() else "is empty"


def _no_authorities(path: str) -> str:
    content = _content(path, MAX_BUNDLE_BYTES).decode("ascii", "ignore")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content)
    except (ssl.SSLError, ValueError):
        return "holds no certificate in PEM"
    return ""


def _content(path: str, most: int) -> bytes:
    with contextlib.suppress(OSError), Path(path).expanduser().open("rb") as opened:
        return opened.read(most)
    return b""


def _shown(path: str) -> str:
    return masking.mask(" ".join(path.split())[:200])
