"""Keys and values of earlier texts in the real PyTorch and ONNX Runtime engines: reused, apart, bounded, given up."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models.make_llama import cache_root, cached
from tests.testkit.client import MODEL_NAME
from tests.vllm import venv
from tests.vllm.server import ROOT, VllmServer, chain_command, environment
from tests.vllm.talking import ask, counter, end, words

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.long]

TOKEN = "a-token-of-some-length"
PAGE = 32  # tokens of a page, and of a block
KERNELS = {"pytorch": "sdpa", "onnx": "GroupQueryAttention"}


@pytest.fixture(scope="module", params=["pytorch", "onnx"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text(TOKEN)
    own = {
        "PYTHONPATH": str(ROOT / "engine_image"),
        "TRIMTAB_ENGINE_SERVED_MODEL_NAME": MODEL_NAME,
        "TRIMTAB_ENGINE_SERVER__TOKEN_FILE": str(token),
        "TRIMTAB_ENGINE_ENGINES__PREFERENCE": f"[{request.param}]",
        "TRIMTAB_ENGINE_ENGINES__PYTORCH__DTYPE": "float32",
        "TRIMTAB_ENGINE_ENGINES__ONNX__CACHE_FOLDER": str(cache_root() / "engine-converted"),
    }
    log = ROOT / "build" / "vllm" / f"reuse-{request.param}.log"
    running = VllmServer(log=log, env=own, start=chain_command)
    running.start()
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.stop()


def engine(server: VllmServer) -> str:
    return str(json.loads(server.get("/health"))["engine"])


def test_a_second_turn_goes_on_from_the_first_and_says_the_same(server: VllmServer) -> None:
    begin = {"x-conversation-id": "second-turn"}
    queries, hits = (counter(server, f"vllm:prefix_cache_{name}_total") for name in ("queries", "hits"))
    first = ask(server, words(1, 300), headers=begin)
    prompt = words(1, 300) + first.text + words(2, 100)
    second = ask(server, prompt, headers=begin)
    alone = ask(server, prompt, headers={"cache-control": "no-store"})
    assert (first.cached_tokens, alone.cached_tokens) == (0, 0)
    # Of what was computed, whole pages: the last token of an answer is said and not computed.
    computed = first.prompt_tokens + 15
    assert second.cached_tokens == computed // PAGE * PAGE
    assert second.text == alone.text
    asked = first.prompt_tokens + second.prompt_tokens
    assert counter(server, "vllm:prefix_cache_queries_total") - queries == asked
    assert counter(server, "vllm:prefix_cache_hits_total") - hits == second.cached_tokens


def test_nobody_goes_on_from_anothers_text(server: VllmServer) -> None:
    text = words(3, 200)
    whose = [
        {"authorization": "Bearer one"},
        {"authorization": "Bearer two"},
        {"authorization": "Bearer one", "x-conversation-id": "a"},
        {"authorization": "Bearer one", "x-conversation-id": "b"},
        {"authorization": "Bearer two", "x-conversation-id": "a"},
        {},
    ]
    found = [ask(server, text, headers=headers, answer=4) for headers in whose]
    assert [turn.cached_tokens for turn in found] == [0] * len(whose)
    again = [ask(server, text, headers=headers, answer=4) for headers in whose]
    assert {turn.cached_tokens for turn in again} == {found[0].prompt_tokens // PAGE * PAGE}
    assert len({turn.text for turn in [*found, *again]}) == 1


def test_what_is_ended_or_reset_is_computed_anew(server: VllmServer) -> None:
    text, mine = words(4, 200), {"authorization": "Bearer one", "x-conversation-id": "ending"}
    ask(server, text, headers=mine)
    assert not end(server, "ending", {"authorization": "Bearer two"})
    assert ask(server, text, headers=mine).cached_tokens > 0
    assert end(server, "ending", {"authorization": "Bearer one"})
    assert ask(server, text, headers=mine).cached_tokens == 0
    request = urllib.request.Request(
        f"{server.url}/v1/optimization/reset_prefix_cache",
        method="POST",
        headers={"authorization": f"Bearer {TOKEN}"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.loads(answer.read()) == {"reset": True}
    assert ask(server, text, headers=mine).cached_tokens == 0


def test_the_kernel_of_attention_is_told(server: VllmServer) -> None:
    attention = json.loads(server.get("/health"))["attention"]
    kernel = KERNELS[engine(server)]
    assert (attention["kernel"], attention["device"]) == (kernel, "cpu")
    assert f'trimtab_engine_attention_info{{device="cpu",kernel="{kernel}"}} 1.0' in server.get("/metrics")
    assert f"Attention is computed by {kernel} on cpu" in server.log.read_text(errors="replace")


def test_pytorch_gives_up_pages_as_it_needs_them_and_loses_none() -> None:
    """Sixty requests of four scopes in a cache of 32 pages, beside the same without reuse."""
    program = Path(__file__).with_name("reuse_steps.py")
    own = environment({"PYTHONPATH": str(ROOT / "engine_image")})
    command = [str(venv.python()), str(program), str(cached("tiny"))]
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["errors"] == []
    assert told["same"] == 60
    assert told["reused"] > 100
    assert told["reused_by_nobody"] == 0
    assert told["after"]["free"] + told["after"]["kept"] == told["after"]["all"] == 32
    assert told["own"] == [0, 112, 0, 112, 0]
    assert told["forgotten"] == [0, 112]
    assert told["end"] == {"free": 32, "kept": 0, "all": 32}
    assert told["cancelled"]["free"] == 32
