"""Access keys of a connection, read again from the files that they were written in."""

from forwarder.config import loader
from forwarder.config.credentials import AccessKeys
from forwarder.errors import ConfigurationError


def reread_keys(keys: AccessKeys, connection: str) -> AccessKeys:
    """Return the keys of a connection that are written now where ``keys`` come from.

    Return ``keys`` themselves where the file has faults, or is no longer of the same connection
    with the same sink. Reads files: to be called in a thread.
    """
    if keys.origin is None:
        return keys
    try:
        found = loader.load_connection(keys.origin.files[0], pipes=False).connection
    except ConfigurationError:
        return keys
    same = (found.name, found.sink) == (connection, keys.origin.sink)
    return found.credentials if same and isinstance(found.credentials, AccessKeys) else keys
