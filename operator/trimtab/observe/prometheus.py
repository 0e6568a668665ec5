"""Prometheus, asked through prometheus-api-client: bounded in time, in size, in number, and never trusted.

Every way in which an answer can fail to be an answer becomes an `Unknown` with its reason; nothing raises. Queries run
in a few threads of their own. One that does not answer holds its thread until its read times out, but its caller only
until the deadline; a query that gets no thread in time is never sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self, TypeAlias, TypeVar

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from trimtab.model.reading import Unknown, Why
from trimtab.observe.http import BoundedSession, Limits, NotAnAnswer, checked_url

OnQuery = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of an instant vector. `value` may be NaN or infinite: so Prometheus says that nothing was measured."""

    labels: Mapping[str, str]
    value: float


Vector: TypeAlias = tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a range: (instant, value) at each step that has one; values as in `Sample`."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


Matrix: TypeAlias = tuple[Series, ...]
A = TypeVar("A")
Question: TypeAlias = Callable[[PrometheusConnect, dict[str, str]], A]


class Prometheus:
    """`query` and `query_range` ask; `on_query(seconds, outcome)` is told of each. The address comes from the
    operator's configuration alone; ValueError when it is not http or https.
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
        self._url = checked_url(url).rstrip("/")
        self._limits = limits or Limits()
        self._headers = dict(headers or {})
        self._ca_file = ca_file
        self._on_query = on_query
        self._pool = ThreadPoolExecutor(self._limits.in_flight, thread_name_prefix="prometheus")
        self._turns = asyncio.Semaphore(self._limits.in_flight)
        self._mine = threading.local()
        self._all: list[PrometheusConnect] = []

    async def query(self, expression: str) -> Vector | Unknown:
        """The instant vector of `expression` at Prometheus' own present, or why there is none."""
        return await self._asked(lambda connection, patience: _vector(connection.custom_query(expression, patience)))

    async def query_range(self, expression: str, *, start: float, end: float, step: float) -> Matrix | Unknown:
        """The series of `expression` at `start`, `start + step`, up to `end` (whole seconds since the epoch)."""
        first, last = (datetime.fromtimestamp(instant, UTC) for instant in (start, end))
        return await self._asked(
            lambda connection, patience: _matrix(
                connection.custom_query_range(expression, first, last, f"{step:g}", patience)
            )
        )

    async def _asked(self, question: Question[A]) -> A | Unknown:
        began = time.monotonic()
        answer = await self._in_turn(question)
        if self._on_query is not None:
            outcome = answer.why.value if isinstance(answer, Unknown) else "ok"
            self._on_query(time.monotonic() - began, outcome)
        return answer

    async def _in_turn(self, question: Question[A]) -> A | Unknown:
        try:
            await asyncio.wait_for(self._turns.acquire(), self._limits.queue)
        except TimeoutError:
            return Unknown(Why.TIMEOUT, f"Prometheus is too busy with other queries ({self._limits.queue:g} s).")
        loop = asyncio.get_running_loop()
        try:
            asked = self._pool.submit(self._ask, question)
        except RuntimeError:
            self._turns.release()
            return Unknown(Why.UNREACHABLE, "The connection to Prometheus has been closed.")
        # The turn ends with the thread's work, not with the caller's patience.
        asked.add_done_callback(lambda _: _unless_closed(loop, self._turns.release))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(asked), self._limits.deadline)
        except TimeoutError:
            return _too_slow(self._limits.deadline)

    def _ask(self, question: Question[A]) -> A | Unknown:
        patience = {"timeout": f"{math.ceil(self._limits.deadline)}s"}
        try:
            return question(self._connection(), patience)
        except requests.exceptions.Timeout:
            return _too_slow(self._limits.read_timeout)
        except (
            NotAnAnswer,
            PrometheusApiClientException,
            requests.exceptions.InvalidJSONError,
            requests.exceptions.ChunkedEncodingError,
            requests.exceptions.ContentDecodingError,
            KeyError,
            TypeError,
            ValueError,
        ) as error:
            said = str(error) if isinstance(error, NotAnAnswer) else "its answer is not the result of a query"
            return Unknown(Why.BAD_ANSWER, f"Prometheus cannot be read: {said}.")
        except requests.exceptions.RequestException as error:
            return Unknown(Why.UNREACHABLE, f"Prometheus cannot be reached ({type(error).__name__}).")

    def _connection(self) -> PrometheusConnect:
        """One connection for each thread: a requests session is not made for sharing."""
        mine: PrometheusConnect | None = getattr(self._mine, "connection", None)
        if mine is None:
            session = BoundedSession(self._limits)
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


def _unless_closed(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended before the thread did
        loop.call_soon_threadsafe(function)


def _too_slow(seconds: float) -> Unknown:
    return Unknown(Why.TIMEOUT, f"Prometheus did not answer within {seconds:g} s.")


def _vector(result: object) -> Vector:
    if not isinstance(result, list):
        raise NotAnAnswer("its answer is not an instant vector")
    return tuple(_sample(item) for item in result)


def _sample(item: Any) -> Sample:
    labels, (_, value) = item["metric"], item["value"]
    if not isinstance(labels, dict):
        raise NotAnAnswer("its answer is not an instant vector")
    return Sample(labels, float(value))


def _matrix(result: object) -> Matrix:
    if not isinstance(result, list):
        raise NotAnAnswer("its answer is not a range of values")
    return tuple(_series(item) for item in result)


def _series(item: Any) -> Series:
    labels, values = item["metric"], item["values"]
    if not isinstance(labels, dict) or not isinstance(values, list):
        raise NotAnAnswer("its answer is not a range of values")
    return Series(labels, tuple((float(instant), float(value)) for instant, value in values))
