"""Logs as JSON lines on standard error, with secrets taken out, and one line for each reconcile."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO, Any

_LONGEST = 4000
_HIDDEN = "[redacted]"
_PATTERNS = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {_HIDDEN}"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), _HIDDEN),  # a JSON web token
    (re.compile(r"\bhf_[A-Za-z0-9]{16,}"), _HIDDEN),  # a token for model downloads
    (re.compile(r"\bsk-[A-Za-z0-9_-]{16,}"), _HIDDEN),  # an API key of the OpenAI kind
    (re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://)[^/\s:@]+:[^/\s@]+@"), rf"\1{_HIDDEN}@"),
    (
        re.compile(
            r"(?i)([\"']?[\w.-]*(?:password|passwd|secret|token|api[_-]?key|authorization|credential)s?[\"']?\s*[:=]\s*)"
            r"(\"[^\"]*\"|'[^']*'|[^\s,;}&\"']+)"
        ),
        rf"\1{_HIDDEN}",
    ),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL), _HIDDEN),
)
_SECRET_FIELD = re.compile(r"(?i)(password|passwd|secret|token$|api[_-]?key|authorization|credential)")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

reconcile_log = logging.getLogger("trimtab.reconcile")


def redacted(text: str) -> str:
    """`text` without what looks like a credential, cut to a length that a log can bear."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, what was passed as `extra`, and the error's last line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": redacted(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD and name not in line:
                line[name] = _plain(name, value)
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line["error"] = redacted(f"{type(error).__name__}: {error}")
            line["traceback"] = redacted(self.formatException(record.exc_info))
        return json.dumps(line, default=str, ensure_ascii=False)


def _plain(name: str, value: object) -> object:
    """JSON's own kinds of values, redacted; anything else by its text."""
    if _SECRET_FIELD.search(name):
        return _HIDDEN
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain("", item) for item in value]
    return redacted(str(value))


def configure(*, level: str = "INFO", stream: IO[str] | None = None, as_json: bool = True) -> None:
    """Sets the root logger up; called once, by the program. Libraries speak from WARNING on: kopf logs each event."""
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(
        JsonFormatter() if as_json else _PlainFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for library in ("kopf", "urllib3", "kubernetes", "prometheus_api_client", "aiohttp", "asyncio"):
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLevelName(level)))


class _PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


def reconciled(
    namespace: str, name: str, outcome: str, *, seconds: Mapping[str, float], reason: str = "", message: str = ""
) -> None:
    """The one line of a reconcile: what came of it, and how long each step took, in milliseconds."""
    reconcile_log.info(
        "%s/%s: %s",
        namespace,
        name,
        message or outcome,
        extra={
            "namespace": namespace,
            "resource": name,
            "outcome": outcome,
            "reason": reason,
            "milliseconds": {step: round(1000 * value, 1) for step, value in seconds.items()},
        },
    )
