"""What the keys of ``gateway`` accept: each check returns a complaint, or notes what is wrong.

Complaints about secrets never quote them.
"""

import re
from collections.abc import Iterator, Sequence
from urllib.parse import parse_qs, unquote, urlsplit

from forwarder.config import checks
from forwarder.config.yaml.sections import SectionValues

MIN_SECRET_CHARS = 16
"""Below this a secret that callers prove themselves with can be tried out."""

_MIN_DIFFERENT_CHARS = 6
_PLACEHOLDER = re.compile(
    r"<[^>]*>|\{\{.*\}\}|change[_-]?(me|it|this)|placeholder|replace[_-]?(me|this)"
    r"|(your|my)[_-](own[_-])?(api|secret|access|key)|(insert|put|enter)[_-]?(your|here)|dummy|todo",
    re.IGNORECASE,
)
_HOST = re.compile(
    r"(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
    r"(?::[0-9]{1,5})?"
)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def secret_complaint(text: str) -> str | None:
    """Complain about what cannot be meant as a secret, or can be guessed."""
    if blank := checks.secret_complaint(text):
        return blank
    if _PLACEHOLDER.search(text):
        return "is a placeholder; give the secret itself, best as ${NAME} or ${file:PATH}"
    if len(text) < MIN_SECRET_CHARS:
        advice = "make one with: openssl rand -hex 32"
        return f"is shorter than {MIN_SECRET_CHARS} characters, which can be tried out; {advice}"
    if len(set(text)) < _MIN_DIFFERENT_CHARS:
        return "repeats few characters, as placeholders do; make one with: openssl rand -hex 32"
    return None


def origin_complaint(text: str) -> str | None:
    """Complain about what no browser sends as Origin: scheme, host and port, and nothing else."""
    if text == "*" or (_ORIGIN.fullmatch(text) and not _is_default_port(text)):
        return None
    lower = text.lower()
    complaints = (
        (lower == "null", 'cannot be null, which any page can claim; name origins, or "*" for any'),
        ("*" in text, 'holds a *, is {}; name every origin, or "*" alone for any'),
        ("://" not in text, "must begin with its scheme, is {}; write https://HOST"),
        (
            lower != text and _ORIGIN.fullmatch(lower.rstrip("/")),
            "has capitals, is {}; write it in lower case, as browsers send it",
        ),
        (
            _ORIGIN.match(lower) and _is_default_port(lower),
            "names the port that its scheme has anyway, is {}; cut it, as browsers do",
        ),
        (True, "must end after host and port, is {}; cut the path, and a slash at its end"),
    )
    return next(what for applies, what in complaints if applies)


def _is_default_port(origin: str) -> bool:
    """Tell whether an origin has the port that browsers leave out (RFC 6454, 6.1)."""
    scheme, _, rest = origin.partition("://")
    return rest.rpartition(":")[2] == str(_DEFAULT_PORTS.get(scheme, ""))


def host_complaint(text: str) -> str | None:
    """Complain about what cannot stand in a Host header."""
    if "://" in text:
        return "must be a host alone, is {}; cut the scheme and what follows the host"
    if not _HOST.fullmatch(text.lower()):
        return "must be a host such as pinpoint.us-east-1.amazonaws.com, is {}; correct it"
    return None if text == text.lower() else "must be in lower case, is {}; write it so"


def dsn_complaint(text: str) -> str | None:
    """Complain about what PostgreSQL's client cannot read; nothing of it is quoted."""
    example = "write postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
    try:
        parts = urlsplit(text)
    except ValueError:
        return f"cannot be read as a URL; {example}, with [ and ] of a password as %5B and %5D"
    login, at, hosts = parts.netloc.rpartition("@")
    wrong_hosts = list(filter(None, map(_dsn_host_complaint, hosts.split(","))))
    complaints = (
        (
            parts.scheme not in {"postgresql", "postgres"},
            f"must begin with postgresql://; {example}",
        ),
        (
            re.search(r"\s", text),
            "holds white space; copy it again without blanks or line ends",
        ),
        ("#" in text, "holds a #, which ends it; write it in a password as %23"),
        (
            at and ("@" in login or login.count(":") > 1),
            "has more than one @ or : before the host; write those of a password as %40 and %3A",
        ),
        (wrong_hosts, f"{'; '.join(wrong_hosts[:1])}; {example}"),
        (not parts.path.strip("/"), f"names no database; {example}"),
    )
    found = next((what for applies, what in complaints if applies), None)
    return found or _dsn_options_complaint(parts.query)


def _dsn_host_complaint(host: str) -> str | None:
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9._-]*)(?::([0-9]{1,5}))?", host)
    if found is None:
        return "has a host or port that cannot be one"
    return "has a port beyond 1 to 65535" if int(found[2] or 1) not in range(1, 1 << 16) else None


def _dsn_options_complaint(query: str) -> str | None:
    for mode in parse_qs(query).get("sslmode", ()):
        if mode not in _SSL_MODES:
            return f"has an sslmode that there is not; write one of {', '.join(_SSL_MODES)}"
    return None


def dsn_secrets(dsn: str) -> Iterator[str]:
    """Yield what of a DSN no log may show: the whole, and the password as it may stand alone."""
    yield dsn
    login = urlsplit(dsn).netloc.rpartition("@")[0]
    password = login.partition(":")[2]
    yield from filter(None, (password, unquote(password)))
    yield from parse_qs(urlsplit(dsn).query).get("password", ())


def place_of(section: SectionValues) -> str:
    """Say where a section stands."""
    return f"line {section.node.line}"


def fault_repeated(named: Sequence[tuple[str | None, SectionValues]], key: str, text: str) -> None:
    """Note a fault at every section whose name another before it has; None: not known."""
    first: dict[str, SectionValues] = {}
    for name, section in named:
        if name and first.setdefault(name, section) is not section:
            what, _, advice = text.partition("; ")
            section.fault(key, f"{what} ({place_of(first[name])}); {advice}")


def fault_other_secret(pair: SectionValues, known: dict[str, tuple[str, SectionValues]]) -> None:
    """Note a fault where an access key id stands with another secret than before."""
    key, secret = pair.get("access_key_id"), pair.get("secret_access_key")
    if key and secret:
        before, other = known.setdefault(key, (secret, pair))
        if before != secret:
            what = f"stands in {place_of(other)} with another secret"
            pair.fault("access_key_id", f"{what}; an id has one, correct one of them")
