"""Whether something listens where `<SOURCE>_API_URL` points: a sandbox that was not started.

A client tries again for a quarter of a minute, as it must with a vendor; a person who forgot to
start the sandbox should know at once. Nothing is asked of vendors' own addresses.
"""

import os
import socket
from urllib.parse import urlsplit

_SECONDS = 5.0


def unreachable(source: str) -> str | None:
    """One line with the variable and what to do, or None if a connection was accepted."""
    variable = f"{source.upper()}_API_URL"
    parts = urlsplit(os.environ.get(variable, ""))
    if not parts.hostname:
        return None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), timeout=_SECONDS).close()
    except OSError as error:
        return (
            f"{source}: nothing answers at {variable} {parts.scheme}://{parts.hostname}:{port} "
            f"({error.strerror or error}); start the sandbox with `revrec sandbox`, or unset it"
        )
    return None
