"""Readings of engines from a real Prometheus that scrapes the engine emulator, or pages with other engines' metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.observe.running_prometheus import Exporter, RealPrometheus, wait_until
from tests.testkit.running import EmulatorServer
from trimtab.model.histogram import Histogram
from trimtab.model.reading import Known, Reading, Unknown, Why
from trimtab.observe.gather import MetricsRead, Target, read_metrics
from trimtab.observe.prometheus import Prometheus
from trimtab.observe.promql import quoted, re2_escaped

WINDOW = 60.0
REQUESTS = 24


def known(reading: Reading[float]) -> float:
    assert isinstance(reading, Known), reading
    return reading.value


def why(reading: Reading[float] | Reading[bool] | Reading[Histogram]) -> Why:
    assert isinstance(reading, Unknown), reading
    return reading.why


async def read(client: Prometheus, target: Target, *, window: float = WINDOW) -> MetricsRead:
    answers = await read_metrics(client, [target], window=window, now=time.time())
    return answers[target.namespace, target.name]


def vllm(place: str, *pods: str, name: str = "service", version: str = "0.32.0") -> Target:
    return Target(namespace=place, name=name, engine="vllm", version=version, pods=pods)


async def until(holds: Callable[[], bool], what: str) -> None:
    await asyncio.to_thread(wait_until, holds, what)


@pytest.mark.emulator
async def test_a_serving_pod_is_read_and_an_idle_one_is_told_apart_from_one_that_is_not_scraped(
    client: Prometheus, prometheus: RealPrometheus, place: str, tmp_path: Path
) -> None:
    slow = ("--emulator-speed", "20", "--max-num-seqs", "4")
    with (
        EmulatorServer(*slow, log=tmp_path / "busy.log") as busy,
        EmulatorServer(*slow, log=tmp_path / "idle.log") as idle,
    ):
        prometheus.scrape(f"127.0.0.1:{busy.port}", namespace=place, pod="busy")
        prometheus.scrape(f"127.0.0.1:{idle.port}", namespace=place, pod="idle")
        scraped = f'min(count_over_time(vllm:num_requests_running{{namespace="{place}"}}[1m]))'
        await until(lambda: (prometheus.number(scraped) or 0) >= 2, "both pods are scraped")
        body = {"prompt": "the quick brown fox " * 8, "max_tokens": 16, "ignore_eos": True}
        for _ in range(REQUESTS):
            await asyncio.to_thread(busy.post, "/v1/completions", body)
        finished = f'sum(vllm:request_success_total{{namespace="{place}",pod="busy"}})'
        await until(lambda: prometheus.number(finished) == REQUESTS, "all requests are counted")

        got = await read(client, vllm(place, "busy", "idle", "unknown"))
        p95 = (
            f"histogram_quantile(0.95, sum by (le) (increase(vllm:time_to_first_token_seconds_bucket"
            f'{{namespace="{place}",pod="busy"}}[60s])))'
        )
        reference = prometheus.number(p95)

    assert isinstance(got.overall, Known)
    pod = got.pod("busy")
    assert isinstance(pod.ttft, Known)
    assert REQUESTS * 0.7 <= pod.ttft.samples <= REQUESTS * 1.6
    assert reference is not None
    assert pod.ttft.value.quantile(0.95) == pytest.approx(reference, rel=0.1)
    assert isinstance(pod.output_tokens, Known)
    assert pod.output_tokens.value.mean == pytest.approx(16, rel=0.01)
    assert known(pod.request_rate) * WINDOW == pytest.approx(REQUESTS, rel=0.6)
    assert known(pod.output_token_rate) == pytest.approx(16 * known(pod.request_rate), rel=0.2)
    assert known(pod.error_rate) == 0
    assert known(pod.kv_capacity_tokens) > 1000
    assert 0 <= known(pod.kv_usage) <= 1
    assert known(pod.preemption_rate) == 0
    assert known(pod.prefix_query_rate) > 0
    assert why(pod.cpu_cores) is Why.NOT_SCRAPED  # nothing plays the kubelet here
    assert why(pod.gpu_utilisation) is Why.NOT_SCRAPED

    quiet = got.pod("idle")
    assert why(quiet.ttft) is Why.NO_TRAFFIC
    assert known(quiet.request_rate) == 0
    assert known(quiet.running) == 0
    assert why(got.pod("unknown").ttft) is Why.NOT_SCRAPED
    assert why(got.pod("unknown").running) is Why.NOT_SCRAPED


@pytest.mark.emulator
async def test_a_pod_that_stops_answering_becomes_unknown_although_its_samples_are_still_in_the_window(
    client: Prometheus, prometheus: RealPrometheus, place: str, tmp_path: Path
) -> None:
    with EmulatorServer(log=tmp_path / "emulator.log") as server:
        prometheus.scrape(f"127.0.0.1:{server.port}", namespace=place, pod="served")
        up = f'up{{namespace="{place}",pod="served"}}'
        await until(lambda: prometheus.number(up) == 1, "the pod is scraped")
    await until(lambda: prometheus.number(up) == 0, "the pod does not answer any more")
    got = await read(client, vllm(place, "served"))
    assert why(got.overall) is Why.STALE
    assert why(got.pod("served").running) is Why.STALE
    assert why(got.pod("served").request_rate) is Why.STALE


async def test_old_metric_names_are_read_in_the_versions_that_have_them(
    client: Prometheus, prometheus: RealPrometheus, exporter: Exporter, place: str
) -> None:
    exporter.page = _page(
        "vllm:num_requests_running 3",
        "vllm:num_requests_waiting 5",
        "vllm:gpu_cache_usage_perc 0.5",
        "vllm:request_success_total 0",
        'vllm:time_per_output_token_seconds_bucket{le="0.1"} 0',
        'vllm:time_per_output_token_seconds_bucket{le="+Inf"} 0',
        "vllm:time_per_output_token_seconds_sum 0",
    )
    await _scraped_twice(prometheus, place, "vllm:num_requests_running")
    exporter.page = exporter.page.replace(" 0\n", " 8\n")
    await until(
        lambda: prometheus.number(f'vllm:request_success_total{{namespace="{place}"}}') == 8, "the counters have moved"
    )
    old = (await read(client, vllm(place, "p", version="0.9.2"))).pod("p")
    assert known(old.kv_usage) == 0.5
    assert isinstance(old.itl, Known)
    new = (await read(client, vllm(place, "p", version="0.32.0"))).pod("p")
    assert why(new.kv_usage) is Why.NOT_EXPORTED
    assert why(new.itl) is Why.NOT_EXPORTED
    assert known(new.running) == 3
    unsaid = (await read(client, vllm(place, "p", version="nightly"))).pod("p")
    assert known(unsaid.kv_usage) == 0.5


async def test_speculative_decoding_is_read_by_the_time_per_output_token(
    client: Prometheus, prometheus: RealPrometheus, exporter: Exporter, place: str
) -> None:
    def page(count: int) -> str:
        return _page(
            "vllm:num_requests_running 1",
            f"vllm:request_success_total {count}",
            f"vllm:spec_decode_num_drafts_total {count}",
            f'vllm:inter_token_latency_seconds_bucket{{le="+Inf"}} {count}',
            f"vllm:inter_token_latency_seconds_sum {count * 0.011}",
            f'vllm:request_time_per_output_token_seconds_bucket{{le="+Inf"}} {count}',
            f"vllm:request_time_per_output_token_seconds_sum {count * 0.003}",
        )

    exporter.page = page(0)
    await _scraped_twice(prometheus, place, "vllm:num_requests_running")
    exporter.page = page(100)
    moved = f'vllm:spec_decode_num_drafts_total{{namespace="{place}"}}'
    await until(lambda: prometheus.number(moved) == 100, "drafts are counted")
    itl = (await read(client, vllm(place, "p"))).pod("p").itl
    assert isinstance(itl, Known)
    assert itl.value.mean == pytest.approx(0.003)


async def test_refusals_and_server_errors_count_as_errors_and_are_not_counted_twice(
    client: Prometheus, prometheus: RealPrometheus, exporter: Exporter, place: str
) -> None:
    def page(*, ended: int, failed: int, refused: int, answers: int) -> str:
        return _page(
            "vllm:num_requests_running 1",
            f'vllm:request_success_total{{finished_reason="stop"}} {ended}',
            f'vllm:request_success_total{{finished_reason="error"}} {failed}',
            f'vllm:admission_rejections_total{{reason="max_num_queued_reqs"}} {refused}',
            f'http_requests_total{{handler="/v1/completions",status="5xx"}} {answers}',
            'http_requests_total{handler="/metrics",status="5xx"} 7',
        )

    exporter.page = page(ended=0, failed=0, refused=0, answers=0)
    await _scraped_twice(prometheus, place, "vllm:num_requests_running")
    exporter.page = page(ended=60, failed=4, refused=30, answers=40)
    await until(
        lambda: prometheus.number(f'vllm:admission_rejections_total{{namespace="{place}"}}') == 30,
        "refusals are counted",
    )
    pod = (await read(client, vllm(place, "p"))).pod("p")
    # 40 answers with 5xx cover the 4 errors and 30 refusals; 64 + 30 requests, and 6 that only the HTTP server saw.
    assert known(pod.error_rate) / known(pod.request_rate) == pytest.approx(40 / 100, rel=0.01)


async def test_ranks_of_one_model_are_not_added_up_on_sglang(
    client: Prometheus, prometheus: RealPrometheus, exporter: Exporter, place: str
) -> None:
    ranks = [(dp, tp) for dp in (0, 1) for tp in (0, 1, 2, 3)]
    exporter.page = _page(
        *(f'sglang:num_running_reqs{{dp_rank="{dp}",tp_rank="{tp}"}} {3 + dp}' for dp, tp in ranks),
        *(f'sglang:max_total_num_tokens{{dp_rank="{dp}",tp_rank="{tp}"}} 1000' for dp, tp in ranks),
        *(f'sglang:token_usage{{dp_rank="{dp}",tp_rank="{tp}"}} 0.{dp + 4}' for dp, tp in ranks),
    )
    await _scraped_twice(prometheus, place, "sglang:num_running_reqs")
    target = Target(namespace=place, name="s", engine="sglang", version="0.5.23", pods=("p",))
    pod = (await read(client, target)).pod("p")
    assert known(pod.running) == 7
    assert known(pod.kv_capacity_tokens) == 2000
    assert known(pod.kv_usage) == 0.5
    # The engine shows its request metrics from the first request on, so their absence is idleness.
    assert why(pod.ttft) is Why.NO_TRAFFIC
    assert known(pod.request_rate) == 0


async def test_what_tgi_has_no_metric_for_is_not_exported(
    client: Prometheus, prometheus: RealPrometheus, exporter: Exporter, place: str
) -> None:
    exporter.page = _page(
        "tgi_queue_size 2",
        "tgi_batch_current_size 4",
        "tgi_batch_current_max_tokens 250",
        "tgi_batch_max_total_tokens 1000",
    )
    await _scraped_twice(prometheus, place, "tgi_queue_size")
    target = Target(namespace=place, name="t", engine="tgi", version="3.3.7", pods=("p",))
    pod = (await read(client, target)).pod("p")
    assert why(pod.ttft) is Why.NOT_EXPORTED
    assert why(pod.prefix_hit_rate) is Why.NOT_EXPORTED
    assert known(pod.waiting) == 2
    assert known(pod.running) == 4
    assert known(pod.kv_usage) == 0.25
    assert known(pod.kv_capacity_tokens) == 1000


async def test_containers_and_gpus_are_read_where_they_are_scraped(
    client: Prometheus, prometheus: RealPrometheus, exporter: Exporter, place: str
) -> None:
    own = f'namespace="{place}",pod="p"'
    exporter.page = _page(
        f"vllm:num_requests_running{{{own}}} 1",
        f'container_memory_working_set_bytes{{{own},container="engine"}} 3000',
        f'container_memory_working_set_bytes{{{own},container="sidecar"}} 500',
        f'container_memory_working_set_bytes{{{own},container=""}} 9999',
        f'container_memory_working_set_bytes{{{own},container="POD"}} 9999',
        f'container_cpu_usage_seconds_total{{{own},container="engine"}} 10',
        *(
            f'DCGM_FI_DEV_GPU_UTIL{{gpu="{gpu}",exported_namespace="{place}",exported_pod="p"}} {40 + 20 * gpu}'
            for gpu in (0, 1)
        ),
        *(f'DCGM_FI_DEV_FB_USED{{gpu="{gpu}",exported_namespace="{place}",exported_pod="p"}} 30' for gpu in (0, 1)),
        *(f'DCGM_FI_DEV_FB_FREE{{gpu="{gpu}",exported_namespace="{place}",exported_pod="p"}} 10' for gpu in (0, 1)),
    )
    await _scraped_twice(prometheus, place, "vllm:num_requests_running")
    target = Target(namespace=place, name="g", engine="vllm", version="0.32.0", pods=("p",), gpu=True)
    pod = (await read(client, target)).pod("p")
    assert known(pod.memory_bytes) == 3500
    assert known(pod.cpu_cores) == 0
    assert known(pod.gpu_utilisation) == pytest.approx(0.5)
    assert known(pod.gpu_memory_share) == pytest.approx(0.75)


async def test_a_pod_that_exports_something_else_says_so(
    client: Prometheus, prometheus: RealPrometheus, exporter: Exporter, place: str
) -> None:
    exporter.page = _page("something_else 1")
    await _scraped_twice(prometheus, place, "something_else")
    got = await read(client, vllm(place, "p"))
    assert why(got.overall) is Why.NOT_EXPORTED


async def test_not_a_number_is_unknown(
    client: Prometheus, prometheus: RealPrometheus, exporter: Exporter, place: str
) -> None:
    exporter.page = _page(
        "vllm:num_requests_running 1", "vllm:num_requests_waiting NaN", "vllm:kv_cache_usage_perc +Inf"
    )
    await _scraped_twice(prometheus, place, "vllm:num_requests_running")
    pod = (await read(client, vllm(place, "p"))).pod("p")
    assert why(pod.waiting) is Why.NOT_A_NUMBER
    assert why(pod.kv_usage) is Why.NOT_A_NUMBER
    assert known(pod.running) == 1


async def test_equal_names_in_two_namespaces_are_kept_apart(
    client: Prometheus, prometheus: RealPrometheus, exporter: Exporter, place: str
) -> None:
    other = f"{place}-other"
    exporter.page = _page(
        f'vllm:num_requests_running{{namespace="{place}",pod="p"}} 1',
        f'vllm:num_requests_running{{namespace="{other}",pod="p"}} 2',
    )
    await _scraped_twice(prometheus, place, "vllm:num_requests_running")
    targets = [vllm(place, "p"), vllm(other, "p")]
    got = await read_metrics(client, targets, window=WINDOW, now=time.time())
    assert known(got[place, "service"].pod("p").running) == 1
    assert known(got[other, "service"].pod("p").running) == 2


async def test_the_number_of_queries_depends_on_the_pods_and_not_on_the_deployments(
    prometheus: RealPrometheus, place: str
) -> None:
    outcomes: list[str] = []
    async with Prometheus(prometheus.url, on_query=lambda _, outcome: outcomes.append(outcome)) as client:
        targets = [vllm(f"{place}-{n % 7}", f"pod-{n}-a", f"pod-{n}-b", name=f"d{n}") for n in range(150)]
        got = await read_metrics(client, targets, window=WINDOW, now=time.time())
    assert len(got) == 150
    assert outcomes == ["ok"] * 15  # five queries for each hundred of three hundred pods


async def test_a_prometheus_that_was_away_is_read_again_by_the_same_client(tmp_path: Path, exporter: Exporter) -> None:
    server = RealPrometheus(tmp_path)
    exporter.page = _page("vllm:num_requests_running 1")
    server.scrape(exporter.address, namespace="a", pod="p")
    server.start()
    try:
        async with Prometheus(server.url) as client:
            fresh = 'count_over_time(vllm:num_requests_running{namespace="a"}[1m])'
            await until(lambda: (server.number(fresh) or 0) >= 2, "the pod is scraped")
            assert isinstance((await read(client, vllm("a", "p"))).overall, Known)
            server.stop()
            assert why((await read(client, vllm("a", "p"))).overall) is Why.UNREACHABLE
            server.start()
            await until(lambda: (server.number("up") or 0) == 1, "the pod is scraped again")
            assert isinstance((await read(client, vllm("a", "p"))).overall, Known)
    finally:
        server.stop()


_texts = st.text(min_size=1, max_size=30).filter(lambda text: "$" not in text)
_awkward = st.sampled_from(
    ['a"} or up{', "back\\slash", "line\nbreak", "}", '"', "\\", "\x00", "é😀", "￿", ".*|a+[b]{2}^"]
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=_texts | _awkward)
def test_every_text_arrives_in_prometheus_as_it_is_and_matches_itself_alone(
    prometheus: RealPrometheus, text: str
) -> None:
    async def ask() -> None:
        async with Prometheus(prometheus.url) as client:
            labelled = f'label_replace(vector(1), "x", {quoted(text)}, "", "")'
            answer = await client.query(labelled)
            assert isinstance(answer, tuple), answer
            assert dict(answer[0].labels) == {"x": text}
            pattern = quoted(re2_escaped(text))
            matched = await client.query(f'label_replace({labelled}, "hit", "yes", "x", {pattern})')
            assert isinstance(matched, tuple)
            assert matched[0].labels.get("hit") == "yes"
            longer = f'label_replace(vector(1), "x", {quoted(text + "!")}, "", "")'
            missed = await client.query(f'label_replace({longer}, "hit", "yes", "x", {pattern})')
            assert isinstance(missed, tuple)
            assert "hit" not in missed[0].labels

    asyncio.run(ask())


def _page(*lines: str) -> str:
    return "\n".join(lines) + "\n"


async def _scraped_twice(prometheus: RealPrometheus, place: str, metric: str) -> None:
    scrapes = f'count_over_time({metric}{{namespace="{place}"}}[1m])'
    await until(lambda: (prometheus.number(scrapes) or 0) >= 2, f"{metric} is scraped twice")
