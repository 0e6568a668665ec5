"""The operator's own metrics and the server that shows them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from trimtab.telemetry.metrics import Metrics
from trimtab.telemetry.server import TelemetryServer


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    def every() -> Iterator[tuple[tuple[str, tuple[tuple[str, str], ...]], float]]:
        for family in text_string_to_metric_families(metrics.exposition().decode()):
            for sample in family.samples:
                yield (sample.name, tuple(sorted(sample.labels.items()))), sample.value

    return dict(every())


async def ask(server: TelemetryServer, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def get(server: TelemetryServer, path: str) -> bytes:
    return await ask(server, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


def test_everything_that_is_told_is_shown() -> None:
    metrics = Metrics()
    with metrics.step("observe"):
        pass
    with pytest.raises(RuntimeError), metrics.step("observe"):
        raise RuntimeError
    metrics.reconciled("ok")
    metrics.judged("Bad", "SLORegression")
    metrics.planned("Proposed")
    metrics.wrote("apply", "Deployment", "ok")
    metrics.queried(0.2, "PrometheusTimeout")
    metrics.queue_depth(3)
    metrics.lagged(0.01)
    metrics.leading(True)
    seen = samples(metrics)
    assert seen["trimtab_reconcile_step_seconds_count", (("step", "observe"),)] == 2
    assert seen["trimtab_reconciles_total", (("outcome", "ok"),)] == 1
    assert seen["trimtab_verdicts_total", (("call", "Bad"), ("reason", "SLORegression"))] == 1
    assert seen["trimtab_plans_total", (("outcome", "Proposed"),)] == 1
    assert seen["trimtab_api_writes_total", (("kind", "Deployment"), ("outcome", "ok"), ("verb", "apply"))] == 1
    assert seen["trimtab_prometheus_queries_total", (("outcome", "PrometheusTimeout"),)] == 1
    assert seen["trimtab_prometheus_query_seconds_count", ()] == 1
    assert seen["trimtab_queue_depth", ()] == 3
    assert seen["trimtab_event_loop_lag_seconds_count", ()] == 1
    assert seen["trimtab_leader", ()] == 1
    assert "process_resident_memory_bytes" in {name for name, _ in seen}


def test_a_deployment_is_in_one_phase_and_in_none_when_it_is_gone() -> None:
    metrics = Metrics()
    metrics.phase("n", "d", "Stable")
    metrics.phase("n", "d", "CanaryJudging")
    metrics.phase("n", "d", "CanaryJudging")

    def phases() -> list[dict[str, str]]:
        return [dict(labels) for (name, labels) in samples(metrics) if name == "trimtab_deployment_phase"]

    assert phases() == [{"namespace": "n", "name": "d", "phase": "CanaryJudging"}]
    metrics.forget("n", "d")
    metrics.forget("n", "d")
    assert phases() == []


def test_two_operators_in_one_process_do_not_share_metrics() -> None:
    one, other = Metrics(), Metrics()
    one.reconciled("ok")
    assert ("trimtab_reconciles_total", (("outcome", "ok"),)) not in samples(other)


async def test_metrics_and_health_are_served_on_the_address_that_was_asked_for() -> None:
    health = {"healthy": True, "ready": False}
    metrics = Metrics()
    async with TelemetryServer(
        metrics,
        host="127.0.0.1",
        port=0,
        healthy=lambda: health["healthy"],
        ready=lambda: health["ready"],
        lag_interval=0.01,
    ) as server:
        assert server.address[0] == "127.0.0.1"
        answer = await get(server, "/metrics?x=1")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"trimtab_queue_depth 0.0" in answer
        assert (await get(server, "/healthz")).startswith(b"HTTP/1.1 200 ")
        assert (await get(server, "/readyz")).startswith(b"HTTP/1.1 503 ")
        health.update(healthy=False, ready=True)
        assert (await get(server, "/healthz")).startswith(b"HTTP/1.1 503 ")
        assert (await get(server, "/readyz")).startswith(b"HTTP/1.1 200 ")
        assert (await get(server, "/")).startswith(b"HTTP/1.1 404 ")
        assert (await ask(server, b"POST /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 405 ")


@pytest.mark.parametrize(
    "request_bytes", [b"\r\n\r\n", b"\xff\xfe\r\n\r\n", b"GET\r\n\r\n", b"x" * 20_000 + b"\r\n\r\n"]
)
async def test_nonsense_neither_ends_the_server_nor_is_answered_with_metrics(request_bytes: bytes) -> None:
    async with TelemetryServer(Metrics(), host="127.0.0.1", port=0) as server:
        try:
            answer = await ask(server, request_bytes)
        except ConnectionError:
            answer = b""
        assert b"trimtab_" not in answer
        assert (await get(server, "/healthz")).startswith(b"HTTP/1.1 200 ")


async def test_the_lag_of_the_event_loop_is_measured() -> None:
    measured = asyncio.Event()

    class Noticing(Metrics):
        def lagged(self, seconds: float) -> None:
            super().lagged(seconds)
            measured.set()

    metrics = Noticing()
    async with TelemetryServer(metrics, host="127.0.0.1", port=0, lag_interval=0.001):
        await asyncio.wait_for(measured.wait(), 30)
    assert samples(metrics)["trimtab_event_loop_lag_seconds_count", ()] >= 1


def test_a_server_that_has_not_been_started_has_no_address() -> None:
    with pytest.raises(RuntimeError, match="not been started"):
        _ = TelemetryServer(Metrics(), host="127.0.0.1", port=0).address
