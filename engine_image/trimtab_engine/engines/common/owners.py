"""Who owns the keys and values of a request: nobody else's requests go on from them. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

CONVERSATION = "x-conversation-id"

Header = Callable[[str], str | None]


def tenant_headers(named: Sequence[str]) -> tuple[str, ...]:
    """The headers that tell tenants apart, in lower case."""
    return ("authorization", *sorted({name.lower() for name in named} - {"authorization"}))


def owner(header: Header, tenants: Sequence[str], *, salt: str | None = None) -> bytes | None:
    """The owner by the request's headers and its `cache_salt`; None where nothing of it shall be kept.

    A conversation is its tenant's: another tenant's conversation of the same name is another one.
    """
    if "no-store" in {part.strip().lower() for part in (header("cache-control") or "").split(",")}:
        return None
    return of_conversation(header, tenants, header(CONVERSATION), salt=salt)


def of_conversation(header: Header, tenants: Sequence[str], name: str | None, *, salt: str | None = None) -> bytes:
    """The owner that requests in the conversation `name` have; None: those that name none."""
    digest = hashlib.blake2b(digest_size=16)
    for value in (*(header(tenant) for tenant in tenants), salt, name):
        # The length before each value: no two lists of values read the same.
        raw = b"" if value is None else value.encode("utf-8", "surrogatepass")
        digest.update(b"-" if value is None else b"%d:" % len(raw))
        digest.update(raw)
    return digest.digest()
