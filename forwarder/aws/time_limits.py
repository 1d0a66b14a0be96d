"""How long calls to AWS, and the search for what signs them, may take."""

import msgspec


class TimeLimits(msgspec.Struct, frozen=True):
    """Bounds in seconds, one set for all AWS clients of a process.

    Each inner wait is over before the one around it, so that its own error is told: ``program``,
    ``pipes`` and ``kill`` together stay below ``search``, which stays below ``call``.
    """

    program: float = 20.0
    """As long as a program of ``credential_process`` may run."""
    pipes: float = 1.0
    """How long after its end its outputs may stay open: others hold them then, for as long as they
    run. What it wrote itself is there to be read when it ends."""
    kill: float = 2.0
    """As long as a program may take to be gone once it was killed."""
    search: float = 25.0
    """A search of the default chain as a whole."""
    assume: float = 13.0
    """AssumeRole: to connect and to read, without the search for the keys that sign it."""
    call: float = 30.0
    """One put as a whole; the timeouts of the connection bound each of its steps."""
    identity: float = 30.0
    """GetCallerIdentity, finding credentials and assuming a role included."""
