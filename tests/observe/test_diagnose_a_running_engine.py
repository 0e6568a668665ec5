"""`diagnose` on the address of a running engine, and on addresses that serve something else."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path

import pytest
from aiohttp import web

from tests.observe.running_prometheus import Exporter
from tests.observe.test_bad_prometheus import drips, html, huge, serving, unavailable
from tests.testkit.ports import free_port
from tests.testkit.running import EmulatorServer
from trimtab.model.reading import Known
from trimtab.observe import diagnose_url
from trimtab.observe.diagnose_url import REVISION, DiagnoseError, read_snapshot
from trimtab.observe.http import Limits


@pytest.mark.emulator
def test_a_running_engine_is_read_through_its_own_metrics(tmp_path: Path) -> None:
    with EmulatorServer("--emulator-speed", "20", log=tmp_path / "emulator.log") as server:

        def load(_: float) -> None:
            for _ in range(5):
                server.post("/v1/completions", {"prompt": "a b c", "max_tokens": 8, "ignore_eos": True})

        snapshot = read_snapshot(server.url, seconds=1.0, sleep=load)
    (pod,) = snapshot.revision(REVISION).ready_pods
    assert snapshot.engine == "vllm"
    assert isinstance(pod.metrics.ttft, Known)
    assert pod.metrics.ttft.samples == 5
    assert isinstance(pod.metrics.output_tokens, Known)
    assert pod.metrics.output_tokens.value.mean == 8


def test_an_address_that_serves_nothing_is_said() -> None:
    with pytest.raises(DiagnoseError, match="cannot be reached"):
        read_snapshot(f"http://127.0.0.1:{free_port()}/metrics", seconds=0.01)


def test_metrics_of_something_else_are_said() -> None:
    with Exporter() as exporter:
        exporter.page = "go_info 1\n"
        with pytest.raises(DiagnoseError, match="vLLM, SGLang or TGI"):
            read_snapshot(f"http://{exporter.address}", seconds=0.01)


@pytest.mark.parametrize("handler", [html, unavailable, huge, drips], ids=lambda handler: handler.__name__)
async def test_an_address_that_misbehaves_is_given_up(handler: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnose_url, "_LIMITS", Limits(read_timeout=0.4, deadline=0.8, max_bytes=1_000_000))
    async with serving(handler) as url:  # type: ignore[arg-type]
        with pytest.raises(DiagnoseError):
            await asyncio.to_thread(read_snapshot, url, seconds=0.01)


async def test_a_redirect_is_not_followed() -> None:
    reached = threading.Event()

    async def elsewhere(_: web.Request) -> web.StreamResponse:
        reached.set()
        return web.Response(text="vllm:num_requests_running 1\n")

    async with contextlib.AsyncExitStack() as stack:
        other = await stack.enter_async_context(serving(elsewhere))

        async def redirect(_: web.Request) -> web.StreamResponse:
            raise web.HTTPFound(other)

        url = await stack.enter_async_context(serving(redirect))
        with pytest.raises(DiagnoseError, match="redirect"):
            await asyncio.to_thread(read_snapshot, url, seconds=0.01)
    assert not reached.is_set()
