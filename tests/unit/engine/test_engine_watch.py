"""What is seen of an answer on its way: the first token, the tokens, how it ended; and that seeing never disturbs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab_engine.asgi.answers import Message
from trimtab_engine.asgi.exchange import End
from trimtab_engine.asgi.watch import Watch
from trimtab_engine.monitor.measured import Outcome
from trimtab_engine.server.watching import outcome_of


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def start(status: int = 200, kind: str = "text/event-stream; charset=utf-8") -> Message:
    return {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind.encode())]}


def part(body: bytes, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def event(document: Any) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def text(piece: str, finish: str | None = None) -> bytes:
    return event({"choices": [{"index": 0, "text": piece, "finish_reason": finish}]})


def test_a_stream_tells_its_first_token_the_times_between_and_its_usage() -> None:
    clock = Clock()
    watch = Watch(clock)
    watch.see(start())
    clock.now = 100.5
    watch.see(part(text("a")))
    clock.now = 100.6
    watch.see(part(text("b") + text("c")))
    clock.now = 101.0
    watch.see(part(text("", "length")))
    watch.see(part(event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 4}})))
    watch.see(part(b"data: [DONE]\n\n", more=False))
    assert (watch.first, watch.last) == (100.5, 100.6)
    count, gaps = watch.fresh()
    assert (count, watch.output_tokens, watch.prompt_tokens, watch.finish) == (4, 4, 7, "length")
    assert gaps == pytest.approx([0.05, 0.05])
    assert watch.fresh() == (0, [])
    assert outcome_of(watch, End.ANSWERED) is Outcome.SUCCEEDED


def test_the_role_of_a_chat_is_no_token_and_text_that_looks_like_an_event_is_none() -> None:
    watch = Watch(Clock())
    watch.see(start())
    watch.see(part(event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})))
    assert watch.first is None
    watch.see(part(event({"choices": [{"delta": {"content": '\n\ndata: {"error": 1}'}}]})))
    assert (watch.output_tokens, watch.failed_inside) == (1, False)


def test_a_usage_in_every_event_counts_each_token_once() -> None:
    watch = Watch(Clock())
    watch.see(start())
    for piece, counted in (("a", 1), ("bc", 3), ("", 4), ("d", 5)):
        usage = {"prompt_tokens": 2, "completion_tokens": counted}
        watch.see(part(event({"choices": [{"index": 0, "text": piece}], "usage": usage})))
    assert (watch.fresh()[0], watch.output_tokens) == (5, 5)


@pytest.mark.parametrize("together", [False, True])
def test_a_usage_of_null_says_nothing_and_the_one_behind_it_does(together: bool) -> None:
    compact = json.dumps({"choices": [{"index": 0, "text": "a"}], "usage": None}, separators=(",", ":")).encode()
    first = b"data: " + compact + b"\n\n"
    last = event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 1}})
    watch = Watch(Clock())
    watch.see(start())
    for body in [first + last] if together else [first, last]:
        watch.see(part(body))
    assert (watch.prompt_tokens, watch.output_tokens) == (7, 1)


def test_a_whole_answer_tells_its_usage_alone() -> None:
    watch = Watch(Clock())
    watch.see(start(kind="application/json"))
    body = {"choices": [{"text": "x", "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 9}}
    watch.see(part(json.dumps(body).encode(), more=False))
    assert (watch.first, watch.prompt_tokens, watch.output_tokens, watch.finish) == (None, 3, 9, "stop")
    assert watch.fresh() == (9, [])


@pytest.mark.parametrize(
    ("messages", "end", "outcome"),
    [
        ([start(500), part(b"{}", False)], End.ANSWERED, Outcome.FAILED),
        ([start(404), part(b"{}", False)], End.ANSWERED, Outcome.INVALID),
        ([start(413), part(b"{}", False)], End.TOO_LARGE, Outcome.INVALID),
        ([start(504), part(b"{}", False)], End.TIMED_OUT, Outcome.TIMED_OUT),
        ([start(), part(text("a"))], End.ANSWERED, Outcome.ABORTED),
        ([start(), part(text("a")), part(event({"error": {"code": 500}}), False)], End.ANSWERED, Outcome.FAILED),
        ([], End.ANSWERED, Outcome.ABORTED),
        ([start()], None, Outcome.FAILED),
    ],
)
def test_the_end_of_a_request_is_told_apart(messages: list[Message], end: End | None, outcome: Outcome) -> None:
    watch = Watch(Clock())
    for message in messages:
        watch.see(message)
    assert outcome_of(watch, end) is outcome


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=200), max_size=10), st.booleans())
async def test_whatever_an_answer_holds_is_sent_as_it_is(bodies: list[bytes], streamed: bool) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    through = Watch(Clock()).through(send)
    given_messages = [start(kind="text/event-stream" if streamed else "x"), *(part(body) for body in bodies)]
    for message in given_messages:
        await through(message)
    assert sent == given_messages


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(1, 5), st.floats(0, 10)), min_size=1, max_size=20))
def test_every_token_but_the_first_event_has_a_gap_and_the_gaps_add_up(steps: list[tuple[int, float]]) -> None:
    clock = Clock()
    watch = Watch(clock)
    watch.see(start())
    for count, pause in steps:
        clock.now += pause
        watch.see(part(text("x") * count))
    count, gaps = watch.fresh()
    assert count == sum(number for number, _ in steps)
    assert len(gaps) == count - steps[0][0]
    assert sum(gaps) == pytest.approx(sum(pause for _, pause in steps[1:]), abs=1e-6)
