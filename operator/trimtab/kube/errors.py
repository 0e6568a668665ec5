"""What can go wrong at the API server, as exceptions that a caller branches on.

KubeError
├── NotFound            the object, its namespace or its kind does not exist (404)
├── Gone                a list or watch position is too old (410)
├── Conflict            somebody else owns a field or wrote first (409); `managers` and `fields` name them
├── Forbidden           our role lacks a verb (403)
├── Unauthorized        our credentials are not accepted (401)
├── Invalid             the object was refused (400, 413, 422); `fields` says where it is wrong
├── TooManyRequests     the server asks for patience (429); `retry_after` in seconds
├── Unavailable         no answer, a time-out, or 5xx: the write may or may not have happened
│   └── Stale           a read from before our own last write (`freshness`)
└── NotLeader           this process does not hold the lease, so nothing was sent
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_LONGEST = 600


class KubeError(Exception):
    """The message is one sentence for a person; it never holds a request's or an answer's body."""

    status = 0


class NotFound(KubeError):  # noqa: N818 - named after the API's reason
    status = 404


class Gone(KubeError):  # noqa: N818
    status = 410


class Conflict(KubeError):  # noqa: N818
    """`managers`: who owns what we tried to apply; empty when the object changed since it was read."""

    status = 409

    def __init__(self, message: str, *, managers: Sequence[str] = (), fields: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.managers = tuple(managers)
        self.fields = tuple(fields)


class Forbidden(KubeError):  # noqa: N818
    status = 403


class Unauthorized(KubeError):  # noqa: N818
    status = 401


class Invalid(KubeError):  # noqa: N818
    status = 422

    def __init__(self, message: str, *, fields: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.fields = tuple(fields)


class TooManyRequests(KubeError):  # noqa: N818
    status = 429

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(KubeError):  # noqa: N818
    status = 503


class NotLeader(KubeError):  # noqa: N818
    """Raised before anything is sent."""


_MANAGER = re.compile(r'conflict with "((?:[^"\\]|\\.)*)"')


def error_from(status: int, headers: Mapping[str, str], body: bytes, doing: str) -> KubeError:
    """The exception for an answer of `status` >= 400. `doing` says what was tried, e.g. "apply Deployment a/b"."""
    document = _status_document(body)
    message = f"{doing}: {_cut(document.get('message') or f'the API server answered {status}')}"
    causes = _causes(document)
    fields = tuple(dict.fromkeys(str(cause.get("field", "")) for cause in causes if cause.get("field")))
    if status == 409:
        managers = tuple(
            dict.fromkeys(name for cause in causes for name in _MANAGER.findall(str(cause.get("message"))))
        )
        return Conflict(message, managers=managers, fields=fields)
    if status in (400, 413, 422) or _is_conversion_failure(status, message):
        return Invalid(message, fields=fields)
    if status == 429:
        return TooManyRequests(message, retry_after=_retry_after(headers, document))
    plain: dict[int, type[KubeError]] = {401: Unauthorized, 403: Forbidden, 404: NotFound, 410: Gone}
    if status in plain:
        return plain[status](message)
    if status < 500:
        return Invalid(message, fields=fields)
    return Unavailable(message)


def _is_conversion_failure(status: int, message: str) -> bool:
    """Server-side apply answers 500 where the object itself is wrong, e.g. a quantity that is none (1.34)."""
    return status == 500 and "unable to convert unstructured object" in message


def _status_document(body: bytes) -> dict[str, Any]:
    """The Status object of an answer; empty when a proxy or a load balancer answered something else."""
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _causes(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    details = document.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    return [cause for cause in causes if isinstance(cause, dict)] if isinstance(causes, list) else []


def _retry_after(headers: Mapping[str, str], document: Mapping[str, Any]) -> float:
    details = document.get("details")
    named = details.get("retryAfterSeconds") if isinstance(details, dict) else None
    for value in (headers.get("Retry-After"), named):
        try:
            return max(0.0, float(value))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            continue
    return 1.0


def _cut(text: object) -> str:
    words = " ".join(str(text).split())
    return words if len(words) <= _LONGEST else words[: _LONGEST - 1] + "…"
