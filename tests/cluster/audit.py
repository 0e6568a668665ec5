"""Reading the API server's audit log: who wrote what, and when."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True)
class Write:
    """One request that changed something, or tried to: `code` is the answer's HTTP status."""

    when: datetime
    user: str
    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str
    agent: str
    code: int

    @property
    def what(self) -> str:
        """For people and for counting: `patch llmdeployments/status demo/chat`."""
        kind = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.verb} {kind} {self.namespace}/{self.name}"


def parse(lines: Iterable[str]) -> list[Write]:
    """The writes in audit log lines; a line that is being written just now is left out."""
    found: list[Write] = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        target = event.get("objectRef", {})
        found.append(
            Write(
                when=datetime.fromisoformat(event["requestReceivedTimestamp"].replace("Z", "+00:00")),
                user=event.get("user", {}).get("username", ""),
                verb=event.get("verb", ""),
                resource=target.get("resource", ""),
                subresource=target.get("subresource", ""),
                namespace=target.get("namespace", ""),
                name=target.get("name", ""),
                agent=event.get("userAgent", ""),
                code=event.get("responseStatus", {}).get("code", 0),
            )
        )
    return found


class AuditLog:
    """The audit log of a running cluster. The policy logs every write; reads, and the leases and event bookkeeping of
    Kubernetes' own components, are not in it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def now(self) -> datetime:
        """The moment to count from: pass it to `writes`."""
        return datetime.now(UTC)

    def writes(self, *, since: datetime, user: str = "", agent: str = "") -> list[Write]:
        """Writes received after `since`, by users and by programs whose names contain the given texts.

        The user of a service account is `system:serviceaccount:<namespace>:<name>`.
        """
        older = sorted(self._path.parent.glob(f"{self._path.stem}-*{self._path.suffix}"))
        found: list[Write] = []
        for path in [*older, self._path]:
            if not path.exists():
                continue
            with path.open(encoding="utf-8", errors="replace") as file:
                found += parse(line for line in file if user in line and agent in line)
        return [write for write in found if write.when > since and user in write.user and agent in write.agent]
