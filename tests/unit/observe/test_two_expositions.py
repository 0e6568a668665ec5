"""A diagnosis from an engine's own metrics: the difference of two recordings of a real vLLM."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from trimtab.model.reading import Known, Reading, Unknown, Why
from trimtab.model.snapshot import PodMetrics, Snapshot
from trimtab.observe.diagnose_url import REVISION, DiagnoseError, read_snapshot, snapshot_between

RECORDINGS = Path(__file__).parents[2] / "vllm" / "recordings"
IDLE = (RECORDINGS / "metrics-idle.txt").read_text()
LOADED = (RECORDINGS / "metrics-after-load.txt").read_text()
BUSY = (RECORDINGS / "metrics-under-load.txt").read_text()


def between(before: str, after: str, *, seconds: float = 10.0) -> Snapshot:
    return snapshot_between(before, after, seconds=seconds, at=1000.0, name="here")


def metrics(snapshot: Snapshot) -> PodMetrics:
    (pod,) = snapshot.revision(REVISION).ready_pods
    return pod.metrics


def known(reading: Reading[float]) -> float:
    assert isinstance(reading, Known), reading
    return reading.value


def recorded(text: str, name: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    )


def test_the_difference_of_two_recordings_is_the_load_between_them() -> None:
    snapshot = between(IDLE, LOADED)
    pod = metrics(snapshot)
    assert (snapshot.engine, snapshot.window, snapshot.at) == ("vllm", 10.0, 1000.0)
    requests = recorded(LOADED, "vllm:request_success_total") - recorded(IDLE, "vllm:request_success_total")
    assert requests > 0
    assert known(pod.request_rate) == pytest.approx(requests / 10)
    assert known(pod.error_rate) == 0
    tokens = recorded(LOADED, "vllm:generation_tokens_total") - recorded(IDLE, "vllm:generation_tokens_total")
    assert known(pod.output_token_rate) == pytest.approx(tokens / 10)
    assert isinstance(pod.ttft, Known)
    first_tokens = recorded(LOADED, "vllm:time_to_first_token_seconds_count") - recorded(
        IDLE, "vllm:time_to_first_token_seconds_count"
    )
    assert pod.ttft.samples == first_tokens
    assert pod.ttft.value.mean > 0
    assert isinstance(pod.itl, Known)
    assert known(pod.kv_capacity_tokens) > 1000


def test_an_idle_engine_has_no_traffic_and_is_not_unreadable() -> None:
    snapshot = between(IDLE, IDLE)
    pod = metrics(snapshot)
    assert isinstance(snapshot.metrics, Known)
    assert isinstance(pod.ttft, Unknown)
    assert pod.ttft.why is Why.NO_TRAFFIC
    assert known(pod.request_rate) == 0
    assert known(pod.running) == 0


def test_a_gauge_is_the_mean_of_both_readings() -> None:
    pod = metrics(between(IDLE, BUSY))
    assert recorded(BUSY, "vllm:num_requests_running") > 0
    assert known(pod.running) == pytest.approx(recorded(BUSY, "vllm:num_requests_running") / 2)


def test_an_engine_that_restarted_in_between_counts_from_nothing() -> None:
    pod = metrics(between(LOADED, IDLE))
    assert known(pod.request_rate) >= 0
    assert known(pod.output_token_rate) >= 0


def test_refused_requests_are_errors() -> None:
    rejected = (RECORDINGS / "metrics-rejections-own-buckets.txt").read_text()
    nothing = rejected.replace("vllm:admission_rejections_total", "vllm:admission_rejections_total_before").replace(
        "http_requests_total", "http_requests_total_before"
    )
    pod = metrics(between(nothing, rejected))
    refused = recorded(rejected, "vllm:admission_rejections_total")
    assert refused > 0
    assert known(pod.error_rate) * 10 >= refused
    assert known(pod.error_rate) <= known(pod.request_rate)


def test_what_the_engine_cannot_say_is_unknown() -> None:
    pod = metrics(between(IDLE, LOADED))
    for reading in (pod.cpu_cores, pod.memory_bytes, pod.gpu_utilisation):
        assert isinstance(reading, Unknown)


@pytest.mark.parametrize("text", ["", "up 1\n", "# HELP nothing\n"])
def test_metrics_of_something_else_are_refused(text: str) -> None:
    with pytest.raises(DiagnoseError, match="not the metrics of"):
        between(text, text)


@pytest.mark.parametrize("text", ["<html>", "vllm:x{ 1", "vllm:x notanumber", '{"a": 1}'])
def test_text_that_is_no_exposition_is_refused(text: str) -> None:
    with pytest.raises(DiagnoseError):
        between(text, text)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "localhost:8000", "http://u:p@host/metrics", "gopher://x/"])
def test_only_plain_http_addresses_are_read(url: str) -> None:
    with pytest.raises(DiagnoseError, match="cannot be read"):
        read_snapshot(url)


def test_the_time_between_the_readings_must_be_something() -> None:
    with pytest.raises(DiagnoseError, match="longer"):
        read_snapshot("http://127.0.0.1/", seconds=0)
