"""Properties of the serving process that have no room of their own: which engine serves, what any request is answered,
what a trace does to a request, what the semantic cache takes for the same question, and what an alert needs."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter

from tests.unit.engine.asgi import ask
from tests.unit.engine.sinks import sink
from tests.unit.engine.test_engine_alerts import reading, window
from tests.unit.engine.test_engine_api import House
from trimtab_engine.alerts.detect import FEWEST, Severity, Thresholds, over_thresholds
from trimtab_engine.asgi.answers import Scope, header
from trimtab_engine.config.load import load
from trimtab_engine.config.observing import TracingConfig
from trimtab_engine.engines.chain import WRONG_ARGUMENTS, Ending, Why, chain_from_json
from trimtab_engine.engines.registry import ENGINES
from trimtab_engine.monitor.measured import Outcome
from trimtab_engine.semantic_cache.question import CHAT, COMPLETIONS, Asker, Question, Rules, question
from trimtab_engine.server.chain import NO_ENGINE, Runner
from trimtab_engine.server.gpu_watch import GpuWatch
from trimtab_engine.server.placing import Placer
from trimtab_engine.server.tracing import RequestTracer
from trimtab_engine.shared.folder import CHAIN, read_json

# Engine selection and fallback.

LIBRARIES = sorted({library for engine in ENGINES.values() for library in engine.libraries})
ENDINGS = st.builds(
    Ending, code=st.sampled_from([0, 1, 2, 3, -9, -15, 137]), served=st.booleans(), asked=st.just(False)
)


class Scripted(Runner):
    """Engines end as it is written; what each of them was told of the chain is kept."""

    def __init__(self, preference: Sequence[str], folder: Path, endings: dict[str, Ending]) -> None:
        config = load(None, {}, {"model": "m", "engines.preference": list(preference)})
        super().__init__(config, folder, {}, Placer(config, folder, GpuWatch(config.gpus, {})))
        self.folder = folder
        self.endings = endings
        self.chains: list[Any] = []

    def _one(self, command: Sequence[str], *, others: bool) -> tuple[Ending, None]:
        chain = chain_from_json(read_json(self.folder / CHAIN))
        assert chain is not None
        self.chains.append(chain)
        assert others == (chain.engine != self._config.engines.preference[-1])
        return self.endings[chain.engine], None


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder for all cases; the signals of this process stay as they are."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)
    for number, handler in before.items():
        signal.signal(number, handler)


@settings(max_examples=150)
@given(
    preference=st.lists(st.sampled_from(sorted(ENGINES)), unique=True, min_size=1),
    absent=st.sets(st.sampled_from(LIBRARIES), max_size=3),
    endings=st.fixed_dictionaries(dict.fromkeys(ENGINES, ENDINGS)),
)
def test_engines_are_tried_in_order_and_the_first_good_end_is_the_servers(
    folder: Path, preference: list[str], absent: set[str], endings: dict[str, Ending]
) -> None:
    runner = Scripted(preference, folder, endings)
    code = runner.run(has=lambda library: library not in absent)
    possible = [name for name in preference if not absent & set(ENGINES[name].libraries)]
    final = [name for name in possible if endings[name].code in (0, WRONG_ARGUMENTS)]
    started = possible[: possible.index(final[0]) + 1] if final else possible
    assert [chain.engine for chain in runner.chains] == started
    last = endings[started[-1]].code if started else NO_ENGINE
    assert code == (last if last >= 0 else 128 - last)
    for chain in runner.chains:
        before = preference[: preference.index(chain.engine)]
        assert [passed.engine for passed in chain.passed] == before
        for passed in chain.passed:
            missing = passed.engine not in possible
            ended = Why.ENDED if endings[passed.engine].served else Why.NOT_STARTED
            assert passed.why == (Why.LIBRARY_MISSING if missing else ended)
        states = chain.states(preference)
        assert list(states.values()).count("serving") == 1 and set(states) >= set(preference)


# Any request.

PATHS = st.sampled_from(
    ["/v1/completions", "/v1/chat/completions", "/v1/models", "/health", "/metrics", "/v1/conversations/a", "/x", "/"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
BODIES = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.dictionaries(st.sampled_from(["prompt", "messages", "max_tokens", "stream", "stop", "cache_salt"]), JSON).map(
        lambda document: json.dumps(document).encode()
    ),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["GET", "POST", "DELETE", "PUT"]), PATHS, BODIES, st.integers(1, 3))
def test_any_request_gets_one_whole_answer_and_leaves_nothing_running(
    folder: Path, method: str, path: str, body: bytes, chunks: int
) -> None:
    async def one() -> None:
        house = House(folder)
        answer = await ask(house.api, method, path, body=body, chunks=chunks)
        assert answer.status in (200, 400, 404, 405)
        assert answer.complete and answer.body
        if answer.status != 200:
            assert answer.document["error"]["code"] == answer.status
        assert (house.api.line.running, house.api.line.waiting) == (0, 0)

    asyncio.run(one())


# Traces.

IDS = st.text("0123456789abcdef", min_size=1, max_size=40)
PARENTS = st.one_of(
    st.text(max_size=60),
    st.builds("00-{:032x}-{:016x}-{:02x}".format, st.integers(0, 2**128), st.integers(0, 2**64), st.integers(0, 300)),
)


def printable(value: str) -> bytes:
    return value.encode("latin-1", "replace")


def test_a_trace_changes_no_header_but_its_own_and_keeps_the_callers_trace() -> None:
    with sink() as receiver:
        spans = Counter("spans", "", ["outcome"], registry=CollectorRegistry())
        config = TracingConfig(endpoint=f"{receiver.url}/v1/traces", sample_percent=0)
        tracer = RequestTracer(config, model="m", engine="e", spans=spans, taken_up=lambda _: None)

        @settings(max_examples=150)
        @given(st.none() | PARENTS, st.none() | IDS, st.dictionaries(st.sampled_from(["accept", "x-a"]), st.text()))
        def holds(parent: str | None, name: str | None, others: dict[str, str]) -> None:
            given_headers = {"traceparent": parent, "x-request-id": name, **others}
            lines = [(key.encode(), printable(value)) for key, value in given_headers.items() if value is not None]
            scope: Scope = {"type": "http", "headers": list(lines)}
            tracer.begin("/v1/completions", scope)
            after = dict(scope["headers"])
            assert len(after) == len(scope["headers"])
            assert all(after[key] == value for key, value in lines if key != b"traceparent")
            assert header(scope, "x-request-id")
            version, trace, span, _ = (header(scope, "traceparent") or "").split("-")
            assert (version, len(trace), len(span)) == ("00", 32, 16)
            parts = (parent or "").split("-")
            sound = len(parts) == 4 and [len(part) for part in parts] == [2, 32, 16, 2] and int(parts[1] or "0", 16)
            if parent is not None and parent.startswith("00-") and sound and int(parts[2], 16):
                assert trace == parts[1] and span != parts[2]

        holds()
        tracer.close()


# The semantic cache.

WORDS = st.text("abc 12", min_size=1, max_size=12).filter(str.strip)
ASKED = st.fixed_dictionaries(
    {"text": WORDS, "tenant": st.sampled_from([None, "a", "b"]), "before": WORDS, "most": st.integers(1, 3)}
)


def asked(what: dict[str, Any]) -> Question:
    messages = [{"role": "user", "content": what["before"]}, {"role": "user", "content": what["text"]}]
    body = json.dumps({"messages": messages, "temperature": 0, "max_tokens": what["most"]}).encode()
    rules = Rules(scope="m", largest_temperature=0, longest_text_characters=100, require_tenant=False)
    found = question(CHAT, body, Asker(tenant=[what["tenant"]]), rules)
    assert isinstance(found, Question)
    return found


@settings(max_examples=200)
@given(ASKED, ASKED)
def test_two_questions_are_compared_only_where_tenant_and_all_before_are_the_same(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    around = {**one, "text": ""} == {**other, "text": ""}
    if asked(one).partition == asked(other).partition:
        assert around
    elif around:  # the numbers in the text differ
        assert any(letter in "12" for letter in one["text"] + other["text"])


@settings(max_examples=150)
@given(st.sampled_from([CHAT, COMPLETIONS, "/x"]), BODIES, st.none() | st.text(max_size=20))
def test_any_body_is_a_question_or_a_reason(path: str, body: bytes, control: str | None) -> None:
    rules = Rules(scope="m", largest_temperature=0, longest_text_characters=100, require_tenant=False)
    found = question(path, body, Asker(tenant=[None], cache_control=control), rules)
    if isinstance(found, Question):
        assert found.text.strip() and len(found.partition) == 64
    else:
        assert found.value


# Alerts.

FINE = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


@settings(max_examples=150)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(1, 100))
def test_a_fuller_cache_is_never_told_less_of(one: float, other: float, threshold: float) -> None:
    less, more = sorted((one, other))
    limits = Thresholds(kv_usage_percent=threshold)

    def told(usage: float) -> int:
        found = list(over_thresholds(replace(reading(), kv_usage=usage), limits))
        assert all(f"{threshold:g}" in finding.message for finding in found)
        return sum(1 + FINE[finding.severity] for finding in found)

    assert told(less) <= told(more)
    assert bool(told(more)) == (100 * more > threshold)


@settings(max_examples=150)
@given(st.integers(0, 100), st.integers(0, 100), st.floats(1, 99))
def test_errors_are_told_by_their_share_and_not_by_a_handful(failed: int, succeeded: int, percent: float) -> None:
    seen = replace(window(), outcomes={Outcome.FAILED: failed, Outcome.SUCCEEDED: succeeded})
    found = list(over_thresholds(reading(window=seen), Thresholds(error_percent=percent)))
    ended = failed + succeeded
    expected = ended >= FEWEST and 100 * failed / max(1, ended) > percent
    assert [finding.name for finding in found] == ["HighErrorRate"] * expected
