"""Faults as data: which requests to the API server meet which misfortune."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import parse_qsl, urlsplit

FOREVER = 1_000_000
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class Kind(Enum):
    """What happens to a request."""

    STATUS = "it is answered with a status and does not reach the API server"
    DROP = "the connection is closed before it reaches the API server"
    LOSE = "it is carried out, and its answer is lost"
    DELAY = "it is passed on later"
    DUPLICATE = "it is sent twice"
    STALE = "a read is answered as it was before the last write that came through here"
    STOP = "what the script's owner asked for happens before it is sent, e.g. a kill; it does not reach the API server"
    STOP_AFTER = "the same after it has been carried out; its answer is lost"
    # Of a watch:
    SILENT = "it is accepted, and nothing ever comes"
    EXPIRED = "it is answered with the event ERROR 410 Gone"
    CUT = "the connection is closed after the first event"
    TWICE = "every event comes twice, and what exists comes as ADDED again"
    WITHOUT = "events of the type in `reason` are left out"
    REVERSED = "of each two events that come together the later one comes first"
    BOOKMARKS = "bookmarks come, other events do not"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`status`, `reason`, `retry_after` for STATUS; `seconds` for DELAY."""

    kind: Kind
    status: int = 500
    reason: str = ""
    retry_after: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request as the script sees it. `verb` as in RBAC, with `apply` for a server-side apply."""

    verb: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def is_write(self) -> bool:
        return self.verb in ("create", "update", "patch", "apply", "delete")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The calls that it fits, without the first `skip` of them, then `times` of them, meet `fault`; with `every` 2
    each second of these.

    An empty field fits everything; `verb` may be "write" or "read".
    """

    fault: Fault
    verb: str = ""
    resource: str = ""
    name: str = ""
    subresource: str | None = None
    namespace: str = ""
    skip: int = 0
    times: int = 1
    every: int = 1

    def fits(self, call: Call) -> bool:
        verbs = {"": True, "write": call.is_write, "read": call.verb in ("get", "list")}
        return (
            verbs.get(self.verb, self.verb == call.verb)
            and self.resource in ("", call.resource)
            and self.name in ("", call.name)
            and self.namespace in ("", call.namespace)
            and self.subresource in (None, call.subresource)
        )


@dataclass
class Script:
    """Rules in order: the first that fits and is due decides. `met` holds what happened, for assertions."""

    rules: list[Rule] = field(default_factory=list)
    met: list[tuple[Call, Kind]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    times: list[float] = field(default_factory=list)  # of the calls, monotonic
    _seen: dict[int, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def play(self, rules: Iterable[Rule]) -> None:
        """These rules from now on, counted anew; nothing else is forgotten."""
        with self._lock:
            self.rules, self._seen = list(rules), {}

    def clear(self) -> None:
        """No more faults."""
        self.play(())

    def writes(self) -> list[tuple[float, Call]]:
        """When which writes came, but for those of a Lease."""
        with self._lock:
            both = list(zip(self.times, self.calls, strict=True))
        return [(at, call) for at, call in both if call.is_write and call.resource != "leases"]

    def fault_of(self, call: Call) -> Fault | None:
        """What this call meets; it is counted."""
        with self._lock:
            self.calls.append(call)
            self.times.append(time.monotonic())
            for place, rule in enumerate(self.rules):
                if not rule.fits(call):
                    continue
                seen = self._seen[place] = self._seen.get(place, 0) + 1
                if rule.skip < seen <= rule.skip + rule.times and (seen - rule.skip - 1) % rule.every == 0:
                    self.met.append((call, rule.fault.kind))
                    return rule.fault
            return None


def call_of(method: str, url: str, content_type: str = "") -> Call:
    """The call that an HTTP request to the API server is."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    words = [word for word in parts.path.split("/") if word]
    words = words[2:] if words[:1] == ["api"] else words[3:] if words[:1] == ["apis"] else []
    namespace = ""
    if words[:1] == ["namespaces"] and len(words) > 2:
        namespace, words = words[1], words[2:]
    resource, name, subresource = (*words, "", "", "")[:3]
    if method == "GET":
        watches = query.get("watch", "").lower() in ("1", "true")
        verb = "watch" if watches else "get" if name else "list"
    else:
        verb = _VERBS[method]
        verb = "apply" if verb == "patch" and "apply-patch" in content_type else verb
        verb = "get" if query.get("dryRun") else verb
    return Call(verb=verb, resource=resource, namespace=namespace, name=name, subresource=subresource)
