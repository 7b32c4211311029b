"""The names by which a server may be asked for: those that cannot be anybody else's.

A page from elsewhere may point a name of its own at this machine (DNS rebinding); its requests carry that name in
`Host`. So only `localhost` and the name that the server listens on are answered, and where it listens to others, plain
addresses and the machine's own name.
"""

from __future__ import annotations

import ipaddress
import socket

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Hosts:
    """Of a server that listens on `host`."""

    def __init__(self, host: str) -> None:
        self.open = host not in LOOPBACK
        self.allowed = {*LOOPBACK, host.casefold(), *([socket.gethostname().casefold()] if self.open else [])}

    def trusted(self, host: str) -> bool:
        """Whether a `Host` can only mean this server."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        name = name.removeprefix("[").removesuffix("]").casefold()
        return name in self.allowed or (self.open and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
