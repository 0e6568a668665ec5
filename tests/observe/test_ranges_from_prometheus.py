"""What pods on trial added to their metrics, read in ranges from a real Prometheus."""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path

import numpy as np
import pytest

from tests.observe.running_prometheus import Exporter, RealPrometheus, wait_until
from tests.testkit.running import EmulatorServer
from trimtab.judge import Policy, judge_history
from trimtab.judge.samples import history_of
from trimtab.model.reading import Unknown, Why
from trimtab.model.reason import Reason
from trimtab.model.samples import ERRORS, REQUESTS, RUNNING, TOKENS
from trimtab.model.slo import Latency
from trimtab.observe.gather import Target
from trimtab.observe.prometheus import Prometheus
from trimtab.observe.trials import Steps, TrialRead, read_trials


async def read(client: Prometheus, *targets: Target, seconds: float = 30.0) -> dict[str, TrialRead | Unknown]:
    now = math.floor(time.time())
    steps = Steps(start=now - seconds, end=now, step=1.0)
    return {key[1]: found for key, found in (await read_trials(client, targets, steps)).items()}


async def _until(prometheus: RealPrometheus, expression: str, value: float) -> None:
    await asyncio.to_thread(wait_until, lambda: prometheus.number(expression) == value, f"{expression} is {value}")


def vllm(place: str, *pods: str, name: str = "service") -> Target:
    return Target(namespace=place, name=name, engine="vllm", version="0.32.0", pods=pods)


@pytest.mark.emulator
async def test_requests_of_an_engine_are_found_scrape_by_scrape_and_can_be_judged(
    client: Prometheus, prometheus: RealPrometheus, place: str, tmp_path: Path
) -> None:
    fast = ("--emulator-speed", "20", "--max-num-seqs", "4")
    with (
        EmulatorServer(*fast, log=tmp_path / "one.log") as one,
        EmulatorServer(*fast, log=tmp_path / "two.log") as two,
    ):
        for server, name in ((one, "stable"), (two, "canary")):
            prometheus.scrape(f"127.0.0.1:{server.port}", namespace=place, pod=name)
        there = f'count(vllm:num_requests_running{{namespace="{place}"}})'
        await _until(prometheus, there, 2)
        body = {"prompt": "the quick brown fox " * 8, "max_tokens": 16, "ignore_eos": True}
        for number in range(24):
            await asyncio.to_thread((one if number % 3 else two).post, "/v1/completions", body)
        done = f'sum(vllm:request_success_total{{namespace="{place}"}})'
        await _until(prometheus, done, 24)
        # Steps are whole seconds: at three of them, at least, there is a scrape that was not there at the one before.
        scraped = f'timestamp(vllm:num_requests_running{{namespace="{place}"}})'
        await _until(prometheus, f"min(changes({scraped}[1m:1s])) >= bool 3", 1)
        await asyncio.sleep(1.1)
        found = (await read(client, vllm(place, "stable", "canary", "unknown")))["service"]
    assert isinstance(found, TrialRead)
    assert 0.5 < found.scrape_interval < 3.0, "a busy machine scrapes late, and never twice as often"
    pod = found.pods["stable"]
    assert pod.counters[REQUESTS].values[-1, 0] == 16
    assert pod.counters[ERRORS].values[-1, 0] == 0
    assert pod.counters[TOKENS].values[-1, 0] == 16 * 16
    assert pod.histograms[Latency.TTFT].values[-1, -2] == 16
    assert pod.histograms[Latency.E2E].values[-1, -1] > 0
    assert (np.diff(pod.histograms[Latency.ITL].values, axis=0) >= 0).all()
    assert pod.gauges[RUNNING].values[-1, 0] == 0
    assert not found.pods["unknown"].counters
    ended = found.pods["stable"].counters[REQUESTS].times[-1]
    history = history_of(list(found.pods.values()), interval=5.0, began=ended - 25.0, looks=5)
    # Nobody is on trial yet.
    assert judge_history(history, Policy()).reason is Reason.CANARY_UNREADABLE


async def test_a_counter_that_begins_anew_is_seen_as_it_was(
    client: Prometheus, prometheus: RealPrometheus, exporter: Exporter, place: str
) -> None:
    counted = f'vllm:request_success_total{{namespace="{place}"}}'
    for count in (100, 7):
        exporter.page = f"vllm:num_requests_running 1\nvllm:request_success_total {count}\n"
        # Steps are whole seconds: some of them must fall on each value.
        await _until(prometheus, f"count_over_time(({counted} == {count})[1m:1s]) >= bool 3", 1)
    found = (await read(client, vllm(place, "p")))["service"]
    assert isinstance(found, TrialRead)
    values = found.pods["p"].counters[REQUESTS].values[:, 0]
    assert {100.0, 7.0} <= set(values)
    began = found.pods["p"].counters[REQUESTS].times[0]
    looks = int((found.pods["p"].counters[REQUESTS].times[-1] - began) // 2)
    history = history_of(list(found.pods.values()), interval=2.0, began=began, looks=max(1, looks))
    assert np.nansum(history.resets) <= 1
    assert np.nanmin(history.counters[REQUESTS]) >= 0


async def test_the_number_of_ranges_depends_on_the_pods_and_not_on_the_deployments(
    prometheus: RealPrometheus, place: str
) -> None:
    outcomes: list[str] = []
    async with Prometheus(prometheus.url, on_query=lambda _, outcome: outcomes.append(outcome)) as client:
        found = await read(client, *(vllm(f"{place}-{n % 3}", f"a-{n}", f"b-{n}", name=f"d{n}") for n in range(20)))
    assert len(found) == 20
    assert outcomes == ["ok"] * 6  # three queries for each twenty of forty pods


async def test_an_engine_that_is_not_known_and_a_prometheus_that_is_gone_are_unknown() -> None:
    async with Prometheus("http://127.0.0.1:9") as client:
        strange = Target(namespace="a", name="strange", engine="mystery", version="1", pods=("p",))
        found = await read(client, strange, vllm("a", "p"))
    for name, why in (("strange", Why.NOT_EXPORTED), ("service", Why.UNREACHABLE)):
        reading = found[name]
        assert isinstance(reading, Unknown)
        assert reading.why is why


@pytest.mark.parametrize(
    "page",
    [
        '{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"2"]}]}}',
        '{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1]]}]}}',
        '{"status":"success","data":{"resultType":"matrix","result":{}}}',
        "<html></html>",
    ],
)
async def test_an_answer_that_is_no_range_is_a_bad_answer(exporter: Exporter, page: str) -> None:
    exporter.page = page
    async with Prometheus(f"http://{exporter.address}") as client:
        answer = await client.query_range("up", start=0.0, end=10.0, step=5.0)
    assert isinstance(answer, Unknown)
    assert answer.why is Why.BAD_ANSWER
