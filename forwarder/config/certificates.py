"""Whether the certificates for Kafka can be used: opened here as the client opens them later.

OpenSSL asks for the passphrase of a key on the terminal unless it is given one; here it never does.
"""

import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

_MAX_BYTES = {"ca_file": 16 << 20, "cert_file": 1 << 20, "key_file": 1 << 20}
"""The largest of each: a key is some KiB, all authorities of an operating system 250 KiB."""

_MARKS = (b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")
"""How PEM says that a key is encrypted: PKCS #8 (RFC 5958), and the older form of OpenSSL."""

_MISMATCH = "KEY_VALUES_MISMATCH"


def certificate_faults(
    ca_file: str | None, cert_file: str | None, key_file: str | None, key_password: str | None
) -> Iterator[tuple[str, str]]:
    """Yield which of these cannot be used, and what to do; nothing is ever asked for."""
    given = {"ca_file": ca_file, "cert_file": cert_file, "key_file": key_file}
    if unread := [*_unread(given)]:
        yield from unread
        return
    if ca_file and (why := _authorities(ca_file)):
        yield "ca_file", f"holds no certificate that can be used ({why}); give a PEM file of them"
    if not (cert_file and key_file):
        return
    if why := _authorities(cert_file):
        yield "cert_file", f"holds no certificate that can be used ({why}); give a PEM file"
        return
    encrypted = _encrypted(key_file)
    if encrypted and not key_password:
        advice = "give its passphrase as ${NAME} or ${file:PATH}, or a key without one"
        yield "key_password", f"is missing: the key in key_file is encrypted; {advice}"
    elif fault := _key(cert_file, key_file, key_password or "", encrypted=encrypted):
        yield fault
    elif key_password and not encrypted:
        yield "key_password", "is not used: the key in key_file is not encrypted; delete it"


def _unread(given: dict[str, str | None]) -> Iterator[tuple[str, str]]:
    """Yield which of these are not read at all: OpenSSL has no bound of its own."""
    for name, path in given.items():
        try:
            found = Path(path).stat() if path else None
        except OSError as error:
            yield name, f"cannot be used ({_said(error)}); mount it, or correct the path"
            continue
        if found and not stat.S_ISREG(found.st_mode):
            yield name, "is no file; name the file itself"
        elif found and found.st_size > _MAX_BYTES[name]:
            yield name, f"is larger than {_MAX_BYTES[name] >> 20} MiB; give a PEM file"


def _authorities(path: str) -> str:
    """Return why a file's certificates cannot be used, empty if they can."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:
        return _said(error)
    return ""


def _key(
    cert_file: str, key_file: str, password: str, *, encrypted: bool
) -> tuple[str, str] | None:
    """Return what is wrong with a key and its certificate together."""
    try:
        # A text: without one OpenSSL asks whoever sits there.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert_file, key_file, password)
    except OSError as error:
        if _MISMATCH in str(error):
            return "key_file", "does not belong to the certificate in cert_file; give its own key"
        if encrypted:
            what = f"does not open the key in key_file ({_said(error)})"
            return "key_password", f"{what}; correct the passphrase"
        return "key_file", f"holds no private key that can be used ({_said(error)}); give a PEM key"
    except ValueError:
        return "key_password", "is longer than OpenSSL takes; give the key a shorter passphrase"
    return None


def _encrypted(path: str) -> bool:
    try:
        with Path(path).open("rb") as opened:
            content = opened.read(_MAX_BYTES["key_file"])
    except OSError:
        return False
    return any(mark in content for mark in _MARKS)


def _said(error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
    return str(reason).lower().replace("_", " ")
