"""Conversations whose turns go on from what was computed for the ones before, beside the same without reuse."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

from tests.bench.serving.rows import Row, at_least, at_most
from tests.bench.serving.servers import onnx, pytorch, served
from tests.testkit.client import EngineClient
from tests.vllm.talking import Turn, ask, counter, words

CONVERSATIONS = 6
TURNS = 5
SYSTEM, SAID, ANSWER = 600, 150, 24  # characters of the first text and of each turn, tokens of an answer
Tell = Callable[[str], None]


def rows(tell: Tell) -> Iterator[Row]:
    for name, server in (("PyTorch", pytorch("again-pytorch")), ("ONNX Runtime", onnx("again-onnx"))):
        with served(server) as running:
            yield from _measure(running, name, tell)


def _measure(server: EngineClient, name: str, tell: Tell) -> Iterator[Row]:
    """One conversation with and one without, by turns, so that other work on the machine meets both."""
    ask(server, words(0, 200), headers={"cache-control": "no-store"})
    before = [counter(server, f"vllm:prefix_cache_{kind}_total") for kind in ("queries", "hits")]
    later: list[tuple[Turn, Turn]] = []
    for number in range(1, CONVERSATIONS + 1):
        text = words(number, SYSTEM)
        for turn in range(TURNS):
            text += words(1000 * number + turn, SAID)
            with_reuse = ask(server, text, headers={"x-conversation-id": f"c{number}"}, answer=ANSWER)
            without = ask(server, text, headers={"cache-control": "no-store"}, answer=ANSWER)
            if turn:
                later.append((with_reuse, without))
            text += with_reuse.text
        tell(f"{name}, conversation {number}: {later[-1][0].ttft:.3f} and {later[-1][1].ttft:.3f} s to a first token")
    after = [counter(server, f"vllm:prefix_cache_{kind}_total") for kind in ("queries", "hits")]
    ratios = [one.ttft / other.ttft for one, other in later]
    medians = [1e3 * statistics.median(pair[side].ttft for pair in later) for side in (0, 1)]
    detail = f"median {medians[0]:.0f} over {medians[1]:.0f} ms, {len(later)} turns after the first"
    title = f"{name}, later turns of a conversation, reuse over none"
    yield at_most(f"{title}: TTFT", statistics.median(ratios), 0.6, detail=detail)
    queries, hits = (end - begin for begin, end in zip(before, after, strict=True))
    detail = f"{hits:.0f} of {queries:.0f} tokens of prompts"
    yield at_least(f"{name}, prefix cache in conversations: hit rate", hits / queries, 0.1, detail=detail)
