"""Whether an address is one of this machine's."""

from __future__ import annotations

import functools
import socket


@functools.lru_cache(maxsize=1024)
def is_local(host: str) -> bool:
    """Whether a listener at ``host`` is on this machine; False for what is not an address."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, 0, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)  # only an address of this machine can be bound
    except OSError:
        return False
    return True
