"""HTTP for reading metrics: bounded in time and size, no redirects, nothing taken from the environment."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests

_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds and bytes. `deadline` bounds one request from its sending on, `queue` how long it may wait to be sent;
    `in_flight` is the number of requests at the same time.
    """

    connect_timeout: float = 2.0
    read_timeout: float = 5.0
    deadline: float = 8.0
    queue: float = 20.0
    in_flight: int = 4
    max_bytes: int = 32 * 1024 * 1024


class NotAnAnswer(Exception):  # noqa: N818
    """The server answered, but not with what was asked for; `status` where that was its HTTP status."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class BoundedSession(requests.Session):
    """Sends queries in the body (a long list of pods does not fit an address), follows nothing, reads no more than
    allowed, and ignores proxies and passwords from the environment.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self.trust_env = False
        self._limits = limits

    def request(self, method: Any, url: Any, **options: Any) -> requests.Response:  # type: ignore[override]
        parameters = options.pop("params", None)
        options["data" if str(method).upper() == "POST" else "params"] = parameters
        options.update(allow_redirects=False, stream=True)
        options["timeout"] = (self._limits.connect_timeout, self._limits.read_timeout)
        end = time.monotonic() + self._limits.deadline
        with super().request(method, url, **options) as answer:
            if answer.is_redirect or 300 <= answer.status_code < 400:
                raise NotAnAnswer("it redirects to another address, which is not followed")
            if answer.status_code != 200:
                raise NotAnAnswer(f"it answered with HTTP status {answer.status_code}", answer.status_code)
            body = bytearray()
            for chunk in answer.iter_content(_CHUNK):
                body += chunk
                if len(body) > self._limits.max_bytes:
                    raise NotAnAnswer(f"its answer is larger than {self._limits.max_bytes} bytes")
                if time.monotonic() > end:
                    raise requests.exceptions.ReadTimeout("the answer did not end in time")
            whole = requests.Response()
            whole.status_code = answer.status_code
            whole.headers = answer.headers
            whole.raw = io.BytesIO(bytes(body))
            return whole


def checked_url(url: str) -> str:
    """`url`, or ValueError when it is not a plain http or https address."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the address must begin with http:// or https:// and name a host")
    if parts.username or parts.password:
        raise ValueError("the address must not hold a user name or a password")
    return url
