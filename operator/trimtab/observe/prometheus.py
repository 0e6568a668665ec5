"""Prometheus, asked through prometheus-api-client: bounded in time, in size, in number, and never trusted.

Every way in which an answer can fail to be an answer becomes an `Unknown` with its reason; nothing raises. Queries run
in a few threads of their own. One that does not answer holds its thread until its read times out, but its caller only
until the deadline, and a query that is still waiting for a thread by then is never sent.
"""

from __future__ import annotations

import asyncio
import io
import math
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self, TypeAlias
from urllib.parse import urlsplit

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from trimtab.model.reading import Unknown, Why

_CHUNK = 64 * 1024
OnQuery = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of an instant vector. `value` may be NaN or infinite: so Prometheus says that nothing was measured."""

    labels: Mapping[str, str]
    value: float


Vector: TypeAlias = tuple[Sample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds and bytes. `deadline` bounds one query as its caller sees it, waiting for a thread included."""

    connect_timeout: float = 2.0
    read_timeout: float = 5.0
    deadline: float = 8.0
    in_flight: int = 4
    max_bytes: int = 32 * 1024 * 1024


class _NotAnAnswer(Exception):  # noqa: N818
    """The server answered, but not with the result of a query."""


class _BoundedSession(requests.Session):
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
                raise _NotAnAnswer("it redirects to another address, which is not followed")
            if answer.status_code != 200:
                raise _NotAnAnswer(f"it answered with HTTP status {answer.status_code}")
            body = bytearray()
            for chunk in answer.iter_content(_CHUNK):
                body += chunk
                if len(body) > self._limits.max_bytes:
                    raise _NotAnAnswer(f"its answer is larger than {self._limits.max_bytes} bytes")
                if time.monotonic() > end:
                    raise requests.exceptions.ReadTimeout("the answer did not end in time")
            whole = requests.Response()
            whole.status_code = answer.status_code
            whole.headers = answer.headers
            whole.raw = io.BytesIO(bytes(body))
            return whole


class Prometheus:
    """`query` asks; `on_query(seconds, outcome)` is told of each query. The address comes from the operator's
    configuration alone; ValueError when it is not http or https.
    """

    def __init__(
        self,
        url: str,
        *,
        limits: Limits | None = None,
        headers: Mapping[str, str] | None = None,
        ca_file: str | None = None,
        on_query: OnQuery | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an http or https address")
        self._url = url.rstrip("/")
        self._limits = limits or Limits()
        self._headers = dict(headers or {})
        self._ca_file = ca_file
        self._on_query = on_query
        self._pool = ThreadPoolExecutor(self._limits.in_flight, thread_name_prefix="prometheus")
        self._mine = threading.local()
        self._all: list[PrometheusConnect] = []

    async def query(self, expression: str) -> Vector | Unknown:
        """The instant vector of `expression` at Prometheus' own present, or why there is none."""
        began = time.monotonic()
        asked = asyncio.get_running_loop().run_in_executor(self._pool, self._ask, expression)
        try:
            answer = await asyncio.wait_for(asked, self._limits.deadline)
        except TimeoutError:
            answer = _too_slow(self._limits.deadline)
        if self._on_query is not None:
            outcome = answer.why.value if isinstance(answer, Unknown) else "ok"
            self._on_query(time.monotonic() - began, outcome)
        return answer

    def _ask(self, expression: str) -> Vector | Unknown:
        patience = {"timeout": f"{math.ceil(self._limits.deadline)}s"}
        try:
            return _vector(self._connection().custom_query(expression, params=patience))
        except requests.exceptions.Timeout:
            return _too_slow(self._limits.read_timeout)
        except (
            _NotAnAnswer,
            PrometheusApiClientException,
            requests.exceptions.InvalidJSONError,
            requests.exceptions.ChunkedEncodingError,
            requests.exceptions.ContentDecodingError,
            KeyError,
            TypeError,
            ValueError,
        ) as error:
            said = str(error) if isinstance(error, _NotAnAnswer) else "its answer is not the result of a query"
            return Unknown(Why.BAD_ANSWER, f"Prometheus cannot be read: {said}.")
        except requests.exceptions.RequestException as error:
            return Unknown(Why.UNREACHABLE, f"Prometheus cannot be reached ({type(error).__name__}).")

    def _connection(self) -> PrometheusConnect:
        """One connection for each thread: a requests session is not made for sharing."""
        mine: PrometheusConnect | None = getattr(self._mine, "connection", None)
        if mine is None:
            session = _BoundedSession(self._limits)
            if self._ca_file:
                session.verify = self._ca_file
            never = Retry(total=0, redirect=0)
            mine = PrometheusConnect(
                self._url, headers=self._headers or None, retry=never, session=session, method="POST"
            )
            self._mine.connection = mine
            self._all.append(mine)
        return mine

    async def close(self) -> None:
        """Closes the connections; running queries end at their time-outs."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._shut)

    def _shut(self) -> None:
        self._pool.shutdown(wait=True)
        for connection in self._all:
            connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _too_slow(seconds: float) -> Unknown:
    return Unknown(Why.TIMEOUT, f"Prometheus did not answer within {seconds:g} s.")


def _vector(result: object) -> Vector:
    if not isinstance(result, list):
        raise _NotAnAnswer("its answer is not an instant vector")
    return tuple(_sample(item) for item in result)


def _sample(item: Any) -> Sample:
    labels, (_, value) = item["metric"], item["value"]
    if not isinstance(labels, dict):
        raise _NotAnAnswer("its answer is not an instant vector")
    return Sample(labels, float(value))
