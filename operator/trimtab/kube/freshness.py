"""Refuses answers from the past: what was read is older than what this process wrote before it asked.

The API server's reads are consistent, but a cache or a proxy before it, or a member that was cut off, may lag. The
state of a rollout lives in the status, so acting on an old one would do a step twice. Resource versions of one kind can
be compared as integers (KEP-5504, "Comparable Resource Version"); where they are none, nothing is refused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from trimtab.kube.errors import Unavailable
from trimtab.kube.kinds import Kind

_REMEMBERED: Final = 4096
# A cluster that was restored from a backup begins again at an older version; its back-offs make this some minutes.
_BELIEVED_AFTER: Final = 8

Key: TypeAlias = tuple[str, str, str]  # see `key_of`


class Stale(Unavailable):
    """Reads went back in time; the next one may be right."""


class Freshness:
    """What was written last, by object and by kind; the oldest are forgotten beyond `_REMEMBERED`."""

    def __init__(self) -> None:
        self._newest: OrderedDict[Key, int] = OrderedDict()
        self._refused: dict[Key, int] = {}

    def wrote(self, kind: Kind, answer: Mapping[str, Any]) -> None:
        """An answer to a write of ours."""
        metadata = answer.get("metadata") or {}
        version = _version(metadata)
        if version is None:
            return
        for key in (key_of(kind, metadata.get("namespace"), metadata.get("name")), key_of(kind)):
            self._newest[key] = max(version, self._newest.pop(key, 0))
        while len(self._newest) > _REMEMBERED:
            self._newest.popitem(last=False)

    def newest(self, key: Key) -> int:
        """To be asked before a read is sent: others may write while it is under way."""
        return self._newest.get(key, 0)

    def check(self, key: Key, least: int, answer: Mapping[str, Any], doing: str) -> None:
        """Raises Stale for an answer older than `least`, what `newest` said before it was asked for."""
        version = _version(answer.get("metadata") or {})
        if version is None or version >= least:
            self._refused.pop(key, None)
            return
        self._refused[key] = self._refused.get(key, 0) + 1
        if self._refused[key] >= _BELIEVED_AFTER:
            del self._refused[key]
            self._newest.pop(key, None)
            return
        raise Stale(
            f"{doing}: the answer (resource version {version}) is older than what was written before ({least}); "
            "nothing is decided from it."
        )


def key_of(kind: Kind, namespace: str | None = None, name: str | None = None) -> Key:
    """One object; without a name the kind as a whole, in all namespaces."""
    return kind.path(None), namespace or "", name or ""


def _version(metadata: Mapping[str, Any]) -> int | None:
    text = str(metadata.get("resourceVersion") or "")
    return int(text) if text.isascii() and text.isdigit() else None
