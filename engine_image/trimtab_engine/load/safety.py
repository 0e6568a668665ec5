"""Load goes only to this machine and to private networks."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

_ALLOWED = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
        *("::1/128", "fc00::/7"),
    )
)


class ForbiddenTargetError(OSError):
    """The address is neither loopback nor private."""


def allowed(address: str) -> bool:
    """Whether load may go to an IP address: loopback, RFC 1918, unique local, or carrier-grade shared space."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return any(ip in network for network in _ALLOWED if network.version == ip.version)


def check_url(url: str) -> None:
    """Refuses a URL whose address is known to be outside; a name is checked again whenever it is resolved.

    Raises:
        ForbiddenTargetError: the address is not allowed.
        ValueError: this is no http URL with a host.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r} is no http(s) URL with a host")
    try:
        ipaddress.ip_address(parts.hostname)
    except ValueError:
        return
    if not allowed(parts.hostname):
        raise ForbiddenTargetError(f"load to {parts.hostname} is refused: it is not loopback or private")


class PrivateResolver(AbstractResolver):
    """Resolves names, and refuses answers outside of loopback and private networks."""

    def __init__(self) -> None:
        self._inner = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """As aiohttp asks for it.

        Raises:
            ForbiddenTargetError: one of the addresses is not allowed.
        """
        found = await self._inner.resolve(host, port, family)
        for entry in found:
            if not allowed(entry["host"]):
                raise ForbiddenTargetError(f"load to {host} ({entry['host']}) is refused: not loopback or private")
        return found

    async def close(self) -> None:
        await self._inner.close()
