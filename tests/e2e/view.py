"""What the status of an LLMDeployment says, as typed values; what is not there yet is empty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.e2e.access import Access


def seconds_of(text: str | None) -> float | None:
    """RFC 3339 to seconds since the epoch."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else None


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One condition."""

    status: str = ""
    reason: str = ""
    message: str = ""
    observed_generation: int = 0


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One finished trial; instants in seconds since the epoch."""

    revision: str
    source: str
    outcome: str
    reason: str
    message: str
    config: Mapping[str, Any]
    started_at: float | None
    served_at: float | None
    decided_at: float | None
    ended_at: float | None

    @property
    def key(self) -> tuple[str, float | None]:
        """What tells attempts apart."""
        return self.revision, self.started_at


@dataclass(frozen=True)
class View:
    """One look at an LLMDeployment."""

    document: Mapping[str, Any]

    @property
    def status(self) -> Mapping[str, Any]:
        return dict(self.document.get("status") or {})

    @property
    def generation(self) -> int:
        return int(self.document["metadata"].get("generation", 0))

    @property
    def phase(self) -> str:
        return str(self.status.get("phase") or "")

    @property
    def bottleneck(self) -> str:
        """The worst bottleneck; empty when there is none."""
        found = str(self.status.get("bottleneck") or "")
        return "" if found == "None" else found

    @property
    def suffers(self) -> bool:
        """A bottleneck is found that too much traffic makes, not too little."""
        return self.bottleneck not in {"", "Idle", "OverProvisioned"}

    @property
    def reason(self) -> str:
        return str(self.status.get("reason") or "")

    @property
    def plan(self) -> str:
        return str(self.status.get("plan") or "")

    @property
    def summary(self) -> str:
        return str(self.status.get("summary") or "")

    def condition(self, kind: str) -> Condition:
        """A condition by type; an empty one when it is not there."""
        for found in self.status.get("conditions") or []:
            if found["type"] == kind:
                return Condition(
                    status=found["status"],
                    reason=found.get("reason", ""),
                    message=found.get("message", ""),
                    observed_generation=int(found.get("observedGeneration", 0)),
                )
        return Condition()

    @property
    def conditions(self) -> str:
        """All conditions in a line, for messages."""
        found = self.status.get("conditions") or []
        return ", ".join(f"{c['type']}={c['status']} ({c.get('reason', '')}: {c.get('message', '')})" for c in found)

    @property
    def revisions(self) -> dict[str, dict[str, Any]]:
        return {found["name"]: found for found in self.status.get("revisions") or []}

    def role(self, role: str) -> str:
        """The revision in a role (Stable, Canary, Draining); empty when there is none."""
        return next((name for name, found in self.revisions.items() if found.get("role") == role), "")

    @property
    def stable_config(self) -> dict[str, Any]:
        """The engine configuration of the stable revision."""
        return dict(self.revisions.get(self.role("Stable"), {}).get("config") or {})

    @property
    def attempts(self) -> list[Attempt]:
        """Newest first."""
        return [
            Attempt(
                revision=found.get("revision", ""),
                source=found.get("source", ""),
                outcome=found.get("outcome", ""),
                reason=found.get("reason", ""),
                message=found.get("message", ""),
                config=found.get("config") or {},
                started_at=seconds_of(found.get("startedAt")),
                served_at=seconds_of(found.get("servedAt")),
                decided_at=seconds_of(found.get("decidedAt")),
                ended_at=seconds_of(found.get("endedAt")),
            )
            for found in self.status.get("attempts") or []
        ]

    def new_attempts(self, before: View) -> list[Attempt]:
        """The attempts that ended since an earlier look, newest first."""
        known = {attempt.key for attempt in before.attempts}
        return [attempt for attempt in self.attempts if attempt.key not in known]

    def __str__(self) -> str:
        tried = "; ".join(f"{a.outcome} ({a.reason}): {a.message}" for a in self.attempts[:3])
        return f"phase {self.phase or 'none'}, {self.conditions or 'no conditions'}; attempts: {tried or 'none'}"


def look(access: Access, namespace: str, name: str) -> View:
    """The resource as it is now."""
    return View(access.resource(namespace, name))
