"""The load generator: reproducible, counting every request once, naming every failure, and never reaching outside."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from tests.testkit.loadgen.control import Page, application, snapshot
from tests.testkit.ports import free_port
from tests.testkit.running import ROOT, EmulatorServer, emulator_here
from trimtab_engine.load.client import Target
from trimtab_engine.load.ledger import Histogram, Ledger
from trimtab_engine.load.runner import Runner, Traffic
from trimtab_engine.load.safety import ForbiddenTargetError, PrivateResolver, allowed, check_url
from trimtab_engine.load.workload import Lengths, Workload, gaps

ENVIRONMENT = {**os.environ, "PYTHONPATH": "engine_image"}
WORK = Workload(prompt_tokens=Lengths.parse("uniform:5-20"), output_tokens=Lengths.parse("uniform:2-9"), seed=3)


def runner(url: str, traffic: Traffic, *, log: list[str] | None = None, **target: Any) -> Runner:
    wanted = Target(url=f"{url}/v1", model="m75", **target)
    lines = [] if log is None else log
    return Runner(wanted, WORK, traffic, Ledger(bucket_seconds=1.0), log=lines.append, observer=Page())


async def run(url: str, traffic: Traffic, *, log: list[str] | None = None, **target: Any) -> dict[str, Any]:
    made = runner(url, traffic, log=log, **target)
    await made.run()
    totals = made.ledger.totals()
    assert totals["sent"] == totals["succeeded"] + totals["failed"]
    assert totals["in_flight"] == 0
    return totals


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(6000):
        if holds():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never happened")


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[str]:
    """A server of one handler on loopback."""
    application_ = web.Application()
    application_.router.add_post("/v1/completions", answer)
    made = web.AppRunner(application_, shutdown_timeout=0.1)
    await made.setup()
    site = web.TCPSite(made, "127.0.0.1", port := free_port())
    await site.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await made.cleanup()


async def stream(request: web.Request, *pieces: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "x-pod-name": "pod-7"})
    await response.prepare(request)
    for piece in pieces:
        await response.write(piece.encode())
    return response


def token(text: str = "a") -> str:
    return f'data: {{"choices":[{{"index":0,"text":"{text}"}}]}}\n\n'


ONE = Traffic(concurrency=1, max_requests=1, max_seconds=60)


# --- what is asked, and when ---


def test_the_same_seed_gives_the_same_requests_and_another_seed_others() -> None:
    first, again = (list(islice(WORK.asks(), 50)) for _ in range(2))
    other = list(
        islice(Workload(prompt_tokens=WORK.prompt_tokens, output_tokens=WORK.output_tokens, seed=4).asks(), 50)
    )
    assert first == again
    assert first != other
    assert [ask.number for ask in first] == list(range(50))


def test_prompts_begin_with_one_of_the_shared_prefixes() -> None:
    work = Workload(
        prompt_tokens=Lengths.parse("10"), output_tokens=Lengths.parse("1"), shared_prefixes=3, shared_prefix_tokens=40
    )
    asks = list(islice(work.asks(), 60))
    assert len({ask.prompt[:40] for ask in asks}) == 3
    assert len({ask.prompt for ask in asks}) == 60
    assert {len(ask.prompt) for ask in asks} == {50}


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("64", 64, 64), ("uniform:32-128", 32, 128), ("normal:256,0", 256, 256), ("choice:64=0.8,1024=0.2", 64, 1024)],
)
def test_lengths_keep_their_bounds(text: str, low: int, high: int) -> None:
    source = random.Random(1)
    drawn = [Lengths.parse(text).draw(source) for _ in range(500)]
    assert low <= min(drawn) <= max(drawn) <= high
    assert len(set(drawn)) > 1 or low == high


@pytest.mark.parametrize("text", ["", "0", "uniform:5", "uniform:9-3", "poisson:4", "normal:a,b", "choice:64"])
def test_nonsense_lengths_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"distribution|convert"):
        Lengths.parse(text)


@pytest.mark.parametrize("burstiness", [0.0, 1.0, 3.0])
def test_arrivals_have_the_wanted_rate_and_burstiness(burstiness: float) -> None:
    source = random.Random(5)
    drawn = [gaps(10.0, burstiness, source) for _ in range(20000)]
    assert statistics.mean(drawn) == pytest.approx(0.1, rel=0.1)
    assert statistics.pstdev(drawn) / statistics.mean(drawn) == pytest.approx(burstiness, rel=0.1, abs=1e-9)


# --- where it may go ---


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.96.0.10", "192.168.1.5", "172.16.3.4", "100.64.0.1", "::1", "fd00::1"]
)
def test_this_machine_and_private_networks_are_allowed(address: str) -> None:
    assert allowed(address)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "8.8.8.8",
        "1.1.1.1",
        "172.32.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "2001:4860:4860::8888",
        "::ffff:8.8.8.8",
    ],
)
def test_other_addresses_are_refused(address: str) -> None:
    assert not allowed(address)
    with pytest.raises(ForbiddenTargetError):
        check_url(f"http://[{address}]/v1" if ":" in address else f"http://{address}/v1")


async def test_a_name_is_refused_when_it_resolves_to_the_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = PrivateResolver()

    async def resolve(*_: Any) -> list[dict[str, Any]]:
        return [{"host": "10.0.0.1"}, {"host": "8.8.8.8"}]

    monkeypatch.setattr(resolver._inner, "resolve", resolve)
    with pytest.raises(ForbiddenTargetError):
        await resolver.resolve("engine.example")
    await resolver.close()


def test_a_forbidden_target_ends_with_2_before_anything_is_sent() -> None:
    command = [sys.executable, "-m", "tests.testkit.loadgen", "--url", "http://8.8.8.8/v1"]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "refused" in done.stderr


# --- how it counts ---


@given(st.lists(st.floats(1e-4, 1e3), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99]))
def test_percentiles_are_within_two_percent(values: list[float], share: float) -> None:
    histogram, halves = Histogram(), (Histogram(), Histogram())
    for index, value in enumerate(values):
        histogram.add(value)
        halves[index % 2].add(value)
    true = sorted(values)[max(0, -int(-len(values) * share // 1) - 1)]
    found = histogram.percentile(share)
    assert found is not None
    assert found == pytest.approx(true, rel=0.021)
    halves[0].merge(halves[1])
    assert halves[0].percentile(share) == found


@given(st.lists(st.tuples(st.sampled_from(["ok", "refused", "timeout"]), st.floats(0, 50)), max_size=60))
def test_every_request_is_in_exactly_one_place_at_every_moment(ends: list[tuple[str, float]]) -> None:
    ledger = Ledger(bucket_seconds=2.0)
    moments = sorted((at, index) for index, (_, at) in enumerate(ends))
    for _ in ends:
        ledger.sent(0.0)
    for at, index in moments:
        if ends[index][0] == "ok":
            ledger.succeeded(at, e2e=1.0, prompt_tokens=3)
        else:
            ledger.failed(at, ends[index][0])
        total = ledger.total
        assert total.sent == total.succeeded + total.failed + ledger.in_flight
    assert ledger.in_flight == 0
    series = ledger.series(0.0, 100.0)
    for name in ("sent", "succeeded", "failed", "prompt_tokens"):
        assert sum(bucket[name] for bucket in series) == getattr(ledger.total, name)
    assert sum(ledger.total.failures.values()) == ledger.total.failed


def test_a_window_holds_only_what_happened_in_it() -> None:
    ledger = Ledger(bucket_seconds=1.0)
    for second in range(10):
        ledger.tokens(second + 0.5, 1, None, 0.1)
    assert ledger.window(3.0, 6.0).output_tokens == 3
    assert [bucket["t"] for bucket in ledger.series(7.0, 100.0)] == [7.0, 8.0, 9.0]


def test_old_buckets_are_dropped_but_stay_in_the_totals() -> None:
    ledger = Ledger(bucket_seconds=1.0, keep_buckets=3)
    for second in range(10):
        ledger.tokens(second + 0.5, 1, None, None)
    assert len(ledger.series(0.0, 100.0)) == 3
    assert ledger.totals()["output_tokens"] == 10


# --- against the emulator ---


@pytest.mark.emulator
@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("traffic", [{"concurrency": 8}, {"rate": 500.0}])
async def test_all_requests_succeed_and_agree_with_the_engines_own_counts(chat: bool, traffic: dict[str, Any]) -> None:
    async with emulator_here("--max-num-seqs", "4") as url:
        totals = await run(url, Traffic(max_requests=60, max_seconds=60, **traffic), chat=chat)
        async with aiohttp.ClientSession() as session, session.get(url + "/metrics") as answer:
            page = await answer.text()
    assert (totals["sent"], totals["succeeded"], totals["failed"]) == (60, 60, 0)
    wanted = sum(ask.output_tokens for ask in islice(WORK.asks(), 60))
    assert totals["output_tokens"] == wanted
    assert f'vllm:generation_tokens_total{{engine="0",model_name="m75"}} {float(wanted)}' in page
    assert f'vllm:prompt_tokens_total{{engine="0",model_name="m75"}} {float(totals["prompt_tokens"])}' in page
    assert totals["ttft_ms"]["count"] == totals["e2e_ms"]["count"] == 60
    assert totals["itl_ms"]["count"] == wanted - 60


@pytest.mark.emulator
@pytest.mark.parametrize("keep_alive", [False, True])
async def test_every_request_opens_its_own_connection_unless_told_otherwise(keep_alive: bool) -> None:
    ports = set()

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        ports.add(request.transport.get_extra_info("peername")[1])
        response = await stream(request, *(token() for _ in range(9)), "data: [DONE]\n\n")
        await asyncio.sleep(0.05)  # the end of the body comes by itself, as from uvicorn
        return response

    async with server(answer) as url:
        totals = await run(url, Traffic(concurrency=1, max_requests=6, max_seconds=60), keep_alive=keep_alive)
    assert totals["succeeded"] == 6
    assert len(ports) == (1 if keep_alive else 6)


# --- every failure has its name, and no second try ---


async def test_a_closed_port_is_connect_refused() -> None:
    log: list[str] = []
    totals = await run(f"http://127.0.0.1:{free_port()}", ONE, log=log)
    assert totals["failures"] == {"connect_refused": 1}
    line = json.loads(log[0])
    assert line["reason"] == "connect_refused" and line["request"] == 0 and line["pod"] is None


BROKEN: dict[str, tuple[str, ...]] = {
    "stream_ended_early": (token(),),
    "error_in_stream": (token(), 'data: {"error":{"message":"died"}}\n\n', "data: [DONE]\n\n"),
    "too_few_tokens": (token(), "data: [DONE]\n\n"),
    "bad_event": ("data: {oh no\n\n",),
}


@pytest.mark.parametrize("reason", sorted(BROKEN))
async def test_a_broken_stream_is_a_failure_with_its_reason_and_pod(reason: str) -> None:
    log: list[str] = []
    calls = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal calls
        calls += 1
        return await stream(request, *BROKEN[reason])

    async with server(answer) as url:
        totals = await run(url, ONE, log=log)
    assert totals["failures"] == {reason: 1}
    assert calls == 1, "it must not try again"
    assert json.loads(log[0])["pod"] == "pod-7"


@pytest.mark.parametrize(("rest", "failures"), [("", {}), ("data: {", {"stream_ended_early": 1})])
async def test_without_the_last_event_an_answer_is_whole_once_it_told_why_it_ended(
    rest: str, failures: dict[str, int]
) -> None:
    """As from the server of transformers."""
    told = 'data: {"choices":[{"index":0,"text":"","finish_reason":"length"}],"usage":{"completion_tokens":9}}\n\n'

    async def answer(request: web.Request) -> web.StreamResponse:
        return await stream(request, token(), told + rest)

    async with server(answer) as url:
        totals = await run(url, ONE)
    assert totals["failures"] == failures
    assert (totals["succeeded"], totals["output_tokens"]) == ((0, 1) if failures else (1, 9))


async def test_a_reset_connection_is_named_by_how_far_it_came() -> None:
    async def before(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def after(request: web.Request) -> web.StreamResponse:
        response = await stream(request, token())
        assert request.transport is not None
        request.transport.abort()
        return response

    async with server(before) as url:
        assert (await run(url, ONE))["failures"] == {"connect_reset": 1}
    async with server(after) as url:
        assert (await run(url, ONE))["failures"] == {"stream_reset": 1}


async def test_a_status_is_a_failure_with_its_number() -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "busy"}}, status=503)

    log: list[str] = []
    async with server(answer) as url:
        assert (await run(url, ONE, log=log))["failures"] == {"http_503": 1}
    assert "busy" in json.loads(log[0])["detail"]


async def test_a_request_without_an_answer_fails_at_its_timeout() -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with server(answer) as url:
        assert (await run(url, ONE, timeout=0.2))["failures"] == {"timeout": 1}


async def test_a_run_that_is_cancelled_counts_what_was_in_flight_as_abandoned() -> None:
    arrived = asyncio.Event()

    async def answer(_: web.Request) -> web.StreamResponse:
        arrived.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with server(answer) as url:
        made = runner(url, ONE)
        running = asyncio.create_task(made.run())
        await arrived.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert made.ledger.totals()["failures"] == {"abandoned": 1}
    assert made.ledger.in_flight == 0


async def test_the_open_loop_skips_arrivals_when_too_many_are_in_flight() -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with server(answer) as url:
        made = runner(url, Traffic(rate=200.0, most_in_flight=3, max_seconds=60), timeout=60.0)
        running = asyncio.create_task(made.run())
        await until(lambda: made.ledger.total.skipped >= 5)
        assert (made.ledger.in_flight, made.ledger.total.sent) == (3, 3)
        assert made.ledger.total.skipped >= 5
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


# --- steering it ---


@asynccontextmanager
async def controlled(made: Runner) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    served = web.AppRunner(application(made, Page()), shutdown_timeout=0.1)
    await served.setup()
    await web.TCPSite(served, "127.0.0.1", port := free_port()).start()
    running = asyncio.create_task(made.run())
    try:
        async with aiohttp.ClientSession() as session:
            yield session, f"http://127.0.0.1:{port}"
    finally:
        made.set_state("stopped")
        await running
        await served.cleanup()


@pytest.mark.emulator
async def test_control_pauses_until_nothing_is_in_flight_and_goes_on() -> None:
    async with emulator_here("--max-num-seqs", "4") as url:
        made = runner(url, Traffic(concurrency=8, max_seconds=60))
        async with controlled(made) as (session, own):
            await until(lambda: made.ledger.total.succeeded >= 20)
            async with session.post(own + "/control", json={"state": "paused", "wait_seconds": 30}) as answer:
                paused = await answer.json()
            assert paused["drained"] is True
            assert paused["totals"]["in_flight"] == 0
            assert paused["totals"]["sent"] == paused["totals"]["succeeded"]
            async with session.post(own + "/control", json={"state": "running", "concurrency": 2}) as answer:
                assert answer.status == 200
            most = 0

            def twenty_more() -> bool:
                nonlocal most
                most = max(most, made.ledger.in_flight)
                return bool(made.ledger.total.sent >= paused["totals"]["sent"] + 20)

            await until(twenty_more)
            assert 0 < most <= 2
            async with session.get(own + "/stats") as answer:
                stats = await answer.json()
    assert stats["traffic"]["concurrency"] == 2
    assert sum(bucket["output_tokens"] for bucket in stats["series"]) == stats["totals"]["output_tokens"]
    assert made.ledger.totals()["failed"] == 0


async def test_control_refuses_what_it_does_not_know() -> None:
    made = runner(f"http://127.0.0.1:{free_port()}", Traffic(concurrency=1, max_seconds=60, pause_after_failure=60.0))
    async with controlled(made) as (session, own):
        for body in ({"concurency": 3}, {"rate": -1}, {"state": "asleep"}, [1], {"concurrency": "many"}):
            async with session.post(own + "/control", json=body) as answer:
                assert answer.status == 400, body
        async with session.get(own + "/stats?since=yesterday") as answer:
            assert answer.status == 400


@pytest.mark.emulator
async def test_the_prometheus_page_agrees_with_the_ledger() -> None:
    async with emulator_here() as url:
        page = Page()
        target = Target(url=f"{url}/v1", model="m75")
        made = Runner(target, WORK, Traffic(concurrency=4, max_requests=20, max_seconds=60), Ledger(), observer=page)
        await made.run()
    value = page.registry.get_sample_value
    assert value("loadgen_requests_succeeded_total") == 20
    assert value("loadgen_output_tokens_total") == made.ledger.total.output_tokens
    assert value("loadgen_time_to_first_token_seconds_count") == value("loadgen_e2e_seconds_count") == 20
    window = snapshot(made)["window"]
    assert window["succeeded"] == 20


@pytest.mark.emulator
def test_sigterm_stops_issuing_drains_and_prints_the_summary(tmp_path: Path) -> None:
    with EmulatorServer("--max-num-seqs", "4", log=tmp_path / "log") as engine:
        command = [sys.executable, "-m", "tests.testkit.loadgen", "--url", f"{engine.url}/v1", "--concurrency", "6"]
        process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        listening = json.loads(process.stdout.readline())
        assert listening["event"] == "listening"
        for _ in range(6000):
            if 'generation_tokens_total{engine="0",model_name="m75"} 0.0' not in engine.get("/metrics"):
                break
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=60)
    summary = json.loads(rest.splitlines()[-1])
    assert process.returncode == 0
    assert summary["event"] == "summary"
    totals = summary["totals"]
    assert totals["sent"] == totals["succeeded"] > 0
    assert totals["failed"] == totals["in_flight"] == 0
