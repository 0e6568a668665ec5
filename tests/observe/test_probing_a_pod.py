"""Probes to a server that answers like vLLM, and to servers that do not."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.testkit.client import MODEL_NAME
from tests.testkit.ports import free_port
from tests.testkit.scoring import Manner, ScoringServer
from trimtab.model.quality import Answers, Failed, Fault, Probe, Scored, Unasked
from trimtab.observe.http import Limits
from trimtab.observe.probing import CONTINUATION, Engine, Prober, scored

PROBES = tuple(Probe(f"p{number}", f"Text {number} has these seven words.") for number in range(3))
SMALL = Limits(in_flight=2, max_bytes=200_000)
QUICK = replace(SMALL, read_timeout=1.0, deadline=1.0)  # for what never comes


def engine(server: ScoringServer, model: str = MODEL_NAME) -> Engine:
    return Engine("chat-0", server.host, server.port, model)


async def asked(
    target: Engine,
    limits: Limits = SMALL,
    seconds: float = 300.0,
    clock: Callable[[], float] = time.monotonic,
) -> Answers:
    async with Prober(limits, seconds=seconds, clock=clock) as prober:
        return await prober.ask(target, PROBES)


async def test_every_probe_is_sent_once_in_order_and_read() -> None:
    with ScoringServer() as server:
        answers = await asked(engine(server))
        assert server.asked == [probe.text for probe in PROBES]
    assert not isinstance(answers, Unasked)
    for answer in answers:
        assert isinstance(answer, Scored)
        assert answer.text_tokens == 6 and answer.length == CONTINUATION
        assert answer.logprobs[0] is None and all(value is not None and value <= 0 for value in answer.logprobs[1:])
        assert answer.greedy[1:] == answer.tokens[1:]


async def test_the_most_probable_token_is_the_greedy_one() -> None:
    with ScoringServer(Manner(other=5)) as server:
        answers = await asked(engine(server))
    assert not isinstance(answers, Unasked) and isinstance(answers[0], Scored)
    assert answers[0].greedy[1] == "token_id:999999" and answers[0].greedy[5] == answers[0].tokens[5]


@pytest.mark.parametrize(("status", "fault", "times"), [(400, Fault.REFUSED, 1), (500, Fault.BROKEN, 2)])
async def test_a_text_that_fails_is_an_outcome_and_an_error_is_tried_once_more(
    status: int, fault: Fault, times: int
) -> None:
    manner = Manner(status=lambda text: status if text == PROBES[1].text else 200)
    with ScoringServer(manner) as server:
        answers = await asked(engine(server))
        assert server.asked.count(PROBES[1].text) == times
    assert not isinstance(answers, Unasked)
    assert [type(answer) for answer in answers] == [Scored, Failed, Scored]
    assert isinstance(answers[1], Failed) and answers[1].fault is fault and str(status) in answers[1].message


@pytest.mark.parametrize(
    ("status", "said"), [(401, "asks for a key"), (404, "spec.model.name"), (429, "429"), (503, "503")]
)
async def test_a_pod_that_takes_no_probes_is_unasked_and_left_alone(status: int, said: str) -> None:
    with ScoringServer(Manner(status=lambda _: status)) as server:
        answers = await asked(engine(server))
        assert len(server.asked) == 1
    assert isinstance(answers, Unasked) and said in answers.message and "chat-0" in answers.message


@pytest.mark.parametrize(
    "raw",
    [
        b"<html>",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{"logprobs": null}]}',
        b'{"choices":[{"logprobs":{"tokens":["a","b"],"token_logprobs":[null,NaN],"top_logprobs":[null,{}]}}],'
        b'"usage":{"prompt_tokens":2}}',
        b'{"choices":[{"logprobs":{"tokens":["a","b"],"token_logprobs":[null],"top_logprobs":[null,{}]}}],'
        b'"usage":{"prompt_tokens":2}}',
        b'{"choices":[{"logprobs":{"tokens":["a","b"],"token_logprobs":[null,null],"top_logprobs":[null,null]}}],'
        b'"usage":{"prompt_tokens":2}}',
    ],
)
async def test_an_answer_without_log_probabilities_is_broken(raw: bytes) -> None:
    with ScoringServer(Manner(raw=raw)) as server:
        answers = await asked(engine(server))
    assert not isinstance(answers, Unasked)
    assert all(isinstance(answer, Failed) and answer.fault is Fault.BROKEN for answer in answers)


async def test_an_answer_that_is_too_large_and_one_that_does_not_come_are_unasked() -> None:
    with ScoringServer(Manner(raw=b"x" * 300_000)) as server:
        answers = await asked(engine(server))
    assert isinstance(answers, Unasked) and "larger than 200000 bytes" in answers.message
    with ScoringServer(Manner(before=lambda: time.sleep(1.5))) as server:
        answers = await asked(engine(server), QUICK)
    assert isinstance(answers, Unasked) and "within 1 s" in answers.message


async def test_all_probes_together_have_an_end() -> None:
    clock = [0.0]

    def takes_a_minute() -> None:
        clock[0] += 60.0

    with ScoringServer(Manner(before=takes_a_minute)) as server:
        answers = await asked(engine(server), seconds=50.0, clock=lambda: clock[0])
        assert len(server.asked) == 1
    assert isinstance(answers, Unasked) and "all probes" in answers.message


async def test_a_pod_that_is_gone_is_unasked() -> None:
    answers = await asked(Engine("chat-0", "127.0.0.1", free_port(), MODEL_NAME))
    assert isinstance(answers, Unasked) and "cannot be reached" in answers.message


@pytest.mark.parametrize(
    "address", ["", "example.org", "169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0", "10.0.0.1/8"]
)
async def test_what_is_no_address_of_a_pod_is_never_called(address: str) -> None:
    answers = await asked(Engine("chat-0", address, 8000, MODEL_NAME))
    assert isinstance(answers, Unasked) and "no usable address" in answers.message


def test_addresses_of_both_families_become_urls() -> None:
    assert Engine("p", "10.1.2.3", 8000, "m").url() == "http://10.1.2.3:8000/v1/completions"
    assert Engine("p", "fd00::7", 80, "m").url() == "http://[fd00::7]:80/v1/completions"


def test_a_text_of_one_token_cannot_be_scored() -> None:
    logprobs = {"tokens": ["a"], "token_logprobs": [None], "top_logprobs": [None]}
    with pytest.raises(ValueError, match="no log-probabilities"):
        scored({"choices": [{"logprobs": logprobs}], "usage": {"prompt_tokens": 1}})


async def test_a_closed_prober_asks_nobody() -> None:
    prober = Prober(SMALL)
    await prober.close()
    assert await prober.ask(Engine("p", "127.0.0.1", 1, "m"), PROBES) == Unasked("The operator is stopping.")


async def test_a_caller_that_is_cancelled_and_a_prober_that_is_closed_leave_one_request_behind_at_most() -> None:
    began, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        began.set()
        go_on.wait(5.0)

    for close in (False, True):
        began.clear()
        go_on.clear()
        with ScoringServer(Manner(before=wait)) as server:
            prober = Prober(Limits(read_timeout=5.0))
            asking = asyncio.create_task(prober.ask(engine(server), PROBES))
            await asyncio.to_thread(began.wait, 5.0)
            if close:
                closing = asyncio.create_task(prober.close())
                await asyncio.sleep(0.05)
                go_on.set()
                assert await asking == Unasked("The operator is stopping.")
                await closing
            else:
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
                go_on.set()
                await prober.close()
            assert len(server.asked) == 1
