"""What the pods' engines would have exported, written into a real Prometheus at any time of the past.

Prometheus' own remote-write protocol (version 1: a protobuf message in a snappy block) carries the samples; queries are
then answered by Prometheus itself, in whatever form they are asked. The message is small enough to be encoded here: a
list of series, each with labels and one sample. The snappy block holds literals only, which the format allows.
"""

from __future__ import annotations

import functools
import struct
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tests.fault.natures import Nature

SCRAPE_SECONDS = 5.0
_LATENCY = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1, 1.5, 2, 3, 4, 6, 8, 12, 20, 40)
_TOKENS = (10, 20, 50, 100, 200, 500, 1000, 2000)
# Of a hundred observations, how many lie at which multiple of the middle one: a tail to the right.
_SPREAD = ((0.5, 10), (0.8, 25), (1.0, 30), (1.2, 20), (1.6, 11), (2.2, 4))
_PROMPT, _OUTPUT = 180.0, 90.0

Labels = tuple[tuple[str, str], ...]


@dataclass
class Engine:
    """The counters of one pod since it started, as its `/metrics` would show them."""

    namespace: str
    pod: str
    nature: Nature
    requests_per_second: float = 20.0
    prefix: str = "vllm:"
    requests: float = 0.0

    def serve(self, seconds: float) -> None:
        """Requests are answered."""
        self.requests += self.requests_per_second * seconds

    def restart(self) -> None:
        """Counters begin anew."""
        self.requests = 0.0

    def series(self) -> Iterator[tuple[Labels, float]]:
        """Every series with its present value."""
        busy = min(1.0, self.requests_per_second)
        yield self._named("up", {}, 1.0, prefix="")
        yield self._named("num_requests_running", {}, 2.0 * busy)
        yield self._named("num_requests_waiting", {}, self.nature.waiting * busy)
        yield self._named("kv_cache_usage_perc", {}, 0.1)
        yield self._named("cache_config_info", {"num_gpu_blocks": "1000", "block_size": "16"}, 1.0)
        failed = self.requests * self.nature.error_share
        yield self._named("request_success_total", {"finished_reason": "stop"}, self.requests - failed)
        yield self._named("request_success_total", {"finished_reason": "error"}, failed)
        yield self._named("prompt_tokens_total", {}, self.requests * _PROMPT)
        yield self._named("generation_tokens_total", {}, self.requests * _OUTPUT)
        yield self._named("num_preemptions_total", {}, 0.0)
        nature, count = self.nature, self.requests
        wait = nature.ttft if nature.waiting else 0.001
        yield from self._histogram("time_to_first_token_seconds", _LATENCY, nature.ttft, count)
        yield from self._histogram("inter_token_latency_seconds", _LATENCY, nature.itl, count * _OUTPUT)
        yield from self._histogram("request_time_per_output_token_seconds", _LATENCY, nature.itl, count)
        yield from self._histogram("e2e_request_latency_seconds", _LATENCY, nature.ttft + nature.itl * _OUTPUT, count)
        yield from self._histogram("request_queue_time_seconds", _LATENCY, wait, count)
        yield from self._histogram("request_prompt_tokens", _TOKENS, _PROMPT, count)
        yield from self._histogram("request_generation_tokens", _TOKENS, _OUTPUT, count)

    def _histogram(
        self, name: str, bounds: Iterable[float], middle: float, count: float
    ) -> Iterator[tuple[Labels, float]]:
        share = count / sum(weight for _, weight in _SPREAD)
        for bound in bounds:
            below = sum(weight for factor, weight in _SPREAD if middle * factor <= bound)
            yield self._named(f"{name}_bucket", {"le": f"{bound:g}"}, below * share)
        yield self._named(f"{name}_bucket", {"le": "+Inf"}, count)
        yield self._named(f"{name}_count", {}, count)
        yield self._named(f"{name}_sum", {}, share * sum(middle * factor * weight for factor, weight in _SPREAD))

    def _named(
        self, name: str, labels: Mapping[str, str], value: float, *, prefix: str | None = None
    ) -> tuple[Labels, float]:
        whole = {**labels, "__name__": (self.prefix if prefix is None else prefix) + name}
        whole |= {"namespace": self.namespace, "pod": self.pod, "job": "pods", "instance": self.pod}
        return tuple(sorted(whole.items())), value


def write(url: str, samples: Iterable[tuple[Labels, float, float]]) -> None:
    """Sends (labels, value, seconds since the epoch) to Prometheus; raises where it refuses them."""
    message = b"".join(_field(1, _series(labels, value, at)) for labels, value, at in samples)
    headers = {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
    request = urllib.request.Request(f"{url}/api/v1/write", data=_snappy(message), headers=headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        answer.read()


@functools.lru_cache(20_000)
def _labels(labels: Labels) -> bytes:
    return b"".join(_field(1, _field(1, name.encode()) + _field(2, text.encode())) for name, text in labels)


def _series(labels: Labels, value: float, at: float) -> bytes:
    return _labels(labels) + _field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(int(at * 1000)))


def _field(number: int, content: bytes) -> bytes:
    """A protobuf field of bytes."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _snappy(data: bytes) -> bytes:
    """A snappy block of literals of at most 64 KiB each: a tag with two bytes of length, then the bytes themselves."""
    parts = [_varint(len(data))]
    for start in range(0, len(data), 65536):
        part = data[start : start + 65536]
        parts += [b"\xf4", struct.pack("<H", len(part) - 1), part]
    return b"".join(parts)
