"""The emulator's /metrics against what was recorded from the engine."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.testkit.emulator.config import EngineConfig
from tests.testkit.emulator.flags import parse
from tests.testkit.emulator.metrics import EngineMetrics
from tests.testkit.emulator.scheduler import Request, Scheduler

RECORDINGS = Path(__file__).resolve().parents[1] / "vllm" / "recordings"
# As the recorded engine was started.
RECORDED_FLAGS = ("--kv-cache-memory-bytes", "256M", "--enforce-eager", "--max-num-seqs", "4")


@dataclass
class Family:
    kind: str
    documentation: str
    samples: set[tuple[str, tuple[tuple[str, str], ...]]] = field(default_factory=set)


def families(text: str) -> dict[str, Family]:
    """Name to kind, help text and all (sample name, labels); `le` counts as a label, so buckets are compared too."""
    found: dict[str, Family] = {}
    for family in text_string_to_metric_families(text):
        made = found.setdefault(family.name, Family(family.type, family.documentation))
        made.samples |= {(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples}
    return found


def configured(*arguments: str) -> EngineConfig:
    return parse(["serve", "m75", *RECORDED_FLAGS, *arguments])


def test_an_idle_emulator_exposes_what_the_idle_engine_exposed() -> None:
    real = families((RECORDINGS / "metrics-idle.txt").read_text())
    emulated = families(EngineMetrics(configured()).text().decode())
    assert set(emulated) == set(real)
    for name, family in real.items():
        if name.startswith(("python_", "process_")):
            continue
        assert emulated[name] == family, name


def test_own_buckets_replace_those_of_their_family_and_no_others() -> None:
    buckets = {"time_to_first_token": [0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6]}
    limited = configured("--max-num-queued-reqs", "6", "--custom-histogram-buckets", json.dumps(buckets))
    real = families((RECORDINGS / "metrics-rejections-own-buckets.txt").read_text())
    emulated = families(EngineMetrics(limited).text().decode())
    for name in ("vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds", "vllm:admission_rejections"):
        assert emulated[name] == real[name], name


def value(text: str, pattern: str) -> float:
    found = re.search(rf"^{pattern}(?:\{{[^}}]*\}})? (\S+)$", text, flags=re.MULTILINE)
    assert found is not None, pattern
    return float(found.group(1))


def play(config: EngineConfig, requests: list[Request]) -> tuple[EngineMetrics, str]:
    metrics, scheduler = EngineMetrics(config), Scheduler(config.limits)
    now = 0.0
    for request in requests:
        scheduler.add(request)
    while (step := scheduler.schedule(now)) is not None:
        now += config.profile.step_seconds(step, config.factor)
        metrics.observe_step(step, scheduler.complete(step, now), scheduler)
    return metrics, metrics.text().decode()


def request(number: int, prompt: int, output: int) -> Request:
    def content(start: int, end: int) -> bytes:
        return f"{number},{start},{end}".encode()

    return Request(str(number), prompt, output, 0.0, content, max_tokens=output)


def test_sums_and_counts_agree_with_what_was_served() -> None:
    requests = [request(number, 100 + number, 10 + number) for number in range(20)]
    _, text = play(configured(), requests)
    prompt, output = sum(r.prompt_tokens for r in requests), sum(r.output_tokens for r in requests)
    assert value(text, "vllm:prompt_tokens_total") == prompt
    assert value(text, "vllm:generation_tokens_total") == output
    assert value(text, "vllm:iteration_tokens_total_sum") == prompt + output
    assert value(text, "vllm:request_prompt_tokens_sum") == prompt
    assert value(text, "vllm:request_generation_tokens_sum") == output
    assert value(text, "vllm:time_to_first_token_seconds_count") == 20
    assert value(text, "vllm:inter_token_latency_seconds_count") == output - 20
    assert value(text, "vllm:e2e_request_latency_seconds_count") == 20
    assert 'vllm:request_success_total{engine="0",finished_reason="length",model_name="m75"} 20.0' in text
    assert value(text, "vllm:num_requests_running") == value(text, "vllm:num_requests_waiting") == 0


def test_the_phases_of_a_request_add_up_to_its_latency() -> None:
    _, text = play(configured(), [request(number, 200, 30) for number in range(9)])

    def total(name: str) -> float:
        return value(text, f"vllm:{name}_seconds_sum")

    inference = total("request_prefill_time") + total("request_decode_time")
    assert abs(total("request_inference_time") - inference) < 1e-6
    assert abs(total("e2e_request_latency") - total("request_queue_time") - inference) < 1e-6
    assert abs(total("request_decode_time") - total("inter_token_latency")) < 1e-6


def test_log_stats_off_leaves_out_the_cache_information() -> None:
    text = EngineMetrics(configured("--disable-log-stats")).text().decode()
    assert "vllm:cache_config_info" not in text
