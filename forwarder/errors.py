"""The errors of the program; each answers one question: what may its catcher do next."""


class ForwarderError(Exception):
    """Base of every error raised on purpose; its text says what, where, and what to do.

    ``remedy`` is what an operator can do about it, empty where that stands in ``what`` already or
    where nobody can do anything. ``lasting``: it lasts until somebody has, and no restart helps.
    """

    def __init__(self, what: str, remedy: str = "", *, lasting: bool = False) -> None:
        super().__init__(f"{what}; {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy
        self.lasting = lasting


class ConfigurationError(ForwarderError):
    """The configuration cannot be used; ``faults`` holds every line to print. Exit code 2."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class StartupError(ForwarderError):
    """The worker cannot begin (topics missing, broker refuses). Exit code 1."""


class JournalError(ForwarderError):
    """A tick or an opening failed, or its outcome is unknown: drop the memory, open again."""


class FencedError(JournalError):
    """Another owner opened this partition: open again only once ownership is confirmed (R4)."""


class TokenError(ForwarderError):
    """There is no token to log in to Kafka with; the text says why and what to do, no secret."""


class RefusedError(ForwarderError):
    """What is stored contradicts itself or the log: this partition stops, the rest goes on.

    Raised by what reads a journal, and the owner proves its ownership before it reports it;
    by a journal that lacks topics for a partition before it is opened.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy, lasting=True)
