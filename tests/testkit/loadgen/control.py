"""The small HTTP server of the load generator: `/stats`, `/metrics`, `/control`, `/healthz`."""

from __future__ import annotations

import dataclasses
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from trimtab_engine.load.client import Result
from trimtab_engine.load.runner import Observer, Runner

_BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 60, 120, 300),
)


class Page(Observer):
    """The Prometheus page."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.sent = Gauge("loadgen_requests_sent", "Requests sent so far.", registry=self.registry)
        self.in_flight = Gauge("loadgen_requests_in_flight", "Requests without an end so far.", registry=self.registry)
        self._succeeded = Counter("loadgen_requests_succeeded", "Requests with a whole answer.", registry=self.registry)
        self._failed = Counter(
            "loadgen_requests_failed", "Requests without one, by reason.", ("reason",), registry=self.registry
        )
        self._tokens = Counter("loadgen_output_tokens", "Output tokens received.", registry=self.registry)
        self._ttft = self._histogram("loadgen_time_to_first_token_seconds", "From the request to its first token.")
        self._itl = self._histogram("loadgen_inter_token_latency_seconds", "Between two events with tokens.")
        self._e2e = self._histogram("loadgen_e2e_seconds", "From the request to the end of its answer.")

    def _histogram(self, name: str, documentation: str) -> Histogram:
        return Histogram(name, documentation, buckets=_BUCKETS, registry=self.registry)

    def tokens(self, count: int, gap: float | None, ttft: float | None) -> None:
        self._tokens.inc(count)
        if gap is not None:
            self._itl.observe(gap)
        if ttft is not None:
            self._ttft.observe(ttft)

    def ended(self, result: Result) -> None:
        if result.reason is None:
            self._succeeded.inc()
            self._e2e.observe(result.seconds)
        else:
            self._failed.labels(result.reason).inc()


def snapshot(runner: Runner, *, since: float | None = None, series: bool = True) -> dict[str, Any]:
    """The body of `/stats`: state, totals, the window since `since` added up, and its buckets."""
    now = runner.clock()
    ledger = runner.ledger
    begin = runner.began if since is None else since
    window = ledger.window(begin, now + 1)
    seconds = max(ledger.bucket_seconds, now - max(begin, runner.began))
    body: dict[str, Any] = {
        "now": now,
        "began": runner.began,
        "state": runner.state,
        "traffic": dataclasses.asdict(runner.traffic),
        "totals": ledger.totals(),
        "window": {
            "since": begin,
            "seconds": seconds,
            "output_tokens_per_second": window.output_tokens / seconds,
            "requests_per_second": window.succeeded / seconds,
            **window.as_json(),
        },
    }
    if series:
        body["series"] = ledger.series(begin, now + 1)
    return body


def application(runner: Runner, page: Page) -> web.Application:
    """The handlers over one run."""

    async def stats(request: web.Request) -> web.Response:
        try:
            since = float(request.query["since"]) if "since" in request.query else None
        except ValueError:
            return web.json_response({"error": "since is seconds since the epoch"}, status=400)
        return web.json_response(snapshot(runner, since=since, series=request.query.get("series") != "0"))

    async def metrics(_: web.Request) -> web.Response:
        page.sent.set(runner.ledger.total.sent)
        page.in_flight.set(runner.ledger.in_flight)
        return web.Response(body=generate_latest(page.registry), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"state": runner.state})

    async def control(request: web.Request) -> web.Response:
        try:
            body = await request.json()
            wait = _apply(runner, body)
        except (ValueError, TypeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        drained = await runner.drained(wait) if wait is not None else runner.ledger.in_flight == 0
        return web.json_response({"state": runner.state, "drained": drained, "totals": runner.ledger.totals()})

    made = web.Application()
    made.router.add_get("/stats", stats)
    made.router.add_get("/metrics", metrics)
    made.router.add_get("/healthz", healthz)
    made.router.add_post("/control", control)
    return made


_CHANGES: dict[str, type] = {
    "concurrency": int,
    "rate": float,
    "burstiness": float,
    "max_seconds": float,
    "max_requests": int,
    "most_in_flight": int,
}


def _apply(runner: Runner, body: Any) -> float | None:
    """Applies the body of `/control`; returns how long to wait for the last request in flight.

    `{"concurrency": 8}`, `{"rate": 2.5}` and the other fields of the traffic change it (`concurrency` ends an open
    loop); `{"state": "paused" | "running" | "stopped", "wait_seconds": 60}` stops and starts issuing.

    Raises:
        ValueError: unknown field or value.
    """
    if not isinstance(body, dict):
        raise ValueError("a JSON object is needed")
    if unknown := set(body) - set(_CHANGES) - {"state", "wait_seconds"}:
        raise ValueError(f"unknown fields: {', '.join(sorted(unknown))}")
    changes = {name: _CHANGES[name](value) for name, value in body.items() if name in _CHANGES}
    if any(value < 0 for value in changes.values()):
        raise ValueError("no value may be negative")
    if "concurrency" in changes and "rate" not in changes:
        changes["rate"] = None
    if changes:
        runner.change(dataclasses.replace(runner.traffic, **changes))
    state = body.get("state")
    if state is not None:
        if state not in {"running", "paused", "stopped"}:
            raise ValueError("state is running, paused or stopped")
        runner.set_state(state)
    return float(body["wait_seconds"]) if "wait_seconds" in body else None
