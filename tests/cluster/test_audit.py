"""Reading the audit log."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from tests.cluster.audit import AuditLog


def event(second: int, user: str, verb: str = "patch", **target: str) -> str:
    return json.dumps(
        {
            "requestReceivedTimestamp": f"2026-01-01T00:00:{second:02d}.500000Z",
            "user": {"username": user},
            "userAgent": "kopf",
            "verb": verb,
            "objectRef": {"resource": "llmdeployments", "namespace": "demo", "name": "chat", **target},
            "responseStatus": {"code": 200},
        }
    )


def test_writes_are_counted_by_user_since_a_moment_across_rotated_files(tmp_path: Path) -> None:
    operator = "system:serviceaccount:trimtab:trimtab"
    rotated = tmp_path / "audit-2026-01-01T00-00-02.000.log"
    rotated.write_text("\n".join([event(1, operator), event(2, operator, subresource="status")]) + "\n")
    (tmp_path / "audit.log").write_text(
        "\n".join([event(3, "somebody"), event(4, operator, verb="create"), event(5, operator)[:40]]) + "\n"
    )
    log = AuditLog(tmp_path / "audit.log")
    since = datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC)
    writes = log.writes(since=since, user=operator)
    assert [write.what for write in writes] == [
        "patch llmdeployments/status demo/chat",
        "create llmdeployments demo/chat",
    ]
    assert log.writes(since=since, user=operator, agent="kubectl") == []
    assert len(log.writes(since=since)) == 3


def test_a_log_that_is_not_there_yet_holds_no_writes(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log")
    assert log.writes(since=datetime(2026, 1, 1, tzinfo=UTC)) == []
    assert log.now().tzinfo is UTC
