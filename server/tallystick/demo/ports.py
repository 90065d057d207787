"""A port of this machine for a server that is about to start."""

import secrets
import socket

# Below those that kernels give to outgoing connections: one of these could be taken
# again before the server listens.
_FIRST, _LAST = 10_000, 32_000


def free_port() -> int:
    """One on which nobody listens just now."""
    while True:
        port = _FIRST + secrets.randbelow(_LAST - _FIRST)
        if _is_free(port):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
