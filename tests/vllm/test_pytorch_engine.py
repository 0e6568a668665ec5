"""The chain falls to PyTorch where vLLM does not start, and PyTorch answers as it should."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models.make_llama import cached
from tests.testkit.client import MODEL_NAME
from tests.vllm import venv
from tests.vllm.asking import PROMPT, complete, most_at_once, streamed, text_of
from tests.vllm.server import ROOT, VllmServer, environment, trimtab_command
from trimtab_engine import probe

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.long]

# What transformers itself generates, token by token.
REFERENCE = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="auto").eval()
ids = tokenizer(sys.argv[2], return_tensors="pt").input_ids
with torch.no_grad():
    out = model.generate(ids, do_sample=False, max_new_tokens=24, eos_token_id=None, pad_token_id=0)
print(json.dumps(tokenizer.decode(out[0][ids.shape[1]:], skip_special_tokens=True)))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[VllmServer]:
    """vLLM refuses to run more requests than a step has tokens, before it loads the model."""
    arguments = ("--max-num-seqs", "64", "--max-num-batched-tokens", "32")
    own = {
        "PYTHONPATH": str(ROOT / "engine_image"),
        "TRIMTAB_ENGINE_SERVED_MODEL_NAME": MODEL_NAME,
        "TRIMTAB_ENGINE_ENGINES__PREFERENCE": "[vllm, pytorch]",
        "TRIMTAB_ENGINE_ENGINES__PYTORCH__RUNNING_REQUESTS": "8",
    }
    log = ROOT / "build" / "vllm" / "pytorch-engine.log"
    running = VllmServer(*arguments, log=log, env=own, start=trimtab_command)
    running.start()
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.stop()


def test_the_server_says_which_engine_serves_and_why_not_the_first(server: VllmServer) -> None:
    health = json.loads(server.get("/health"))
    assert (health["status"], health["engine"]) == ("degraded", "pytorch")
    assert health["reasons"] == {"fallback_engine": "vllm ended with status 1 before it served."}
    status = json.loads(server.get("/v1/optimization/status"))
    assert [passed["why"] for passed in status["passed_over"]] == ["not_started"]
    metrics = server.get("/metrics")
    assert 'trimtab_engine_info{name="pytorch"} 1.0' in metrics
    assert f'vllm:num_requests_running{{engine="0",model_name="{MODEL_NAME}"}} 0.0' in metrics
    assert probe.main(["--port", str(server.port), "--timeout", "60"]) == 0


def test_without_temperature_it_says_what_transformers_says(server: VllmServer, tmp_path: Path) -> None:
    program = tmp_path / "reference.py"
    program.write_text(REFERENCE)
    done = subprocess.run(
        [str(venv.python()), str(program), str(cached("m75")), PROMPT],
        env={**os.environ, **environment()},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    expected = json.loads(done.stdout.splitlines()[-1])
    assert text_of(complete(server, temperature=0)) == expected
    assert len({text_of(complete(server, temperature=1.5)) for _ in range(3)}) > 1


def test_streams_and_chats_are_answered_as_by_vllm(server: VllmServer) -> None:
    whole = text_of(complete(server, temperature=0))
    pieces = streamed(server)
    assert "".join(pieces) == whole
    assert len(pieces) > 12
    chat = server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5})
    assert chat["usage"]["completion_tokens"] <= 5
    assert chat["choices"][0]["message"]["role"] == "assistant"


async def test_under_load_every_request_is_answered_and_requests_run_together(server: VllmServer) -> None:
    assert await most_at_once(server, requests=32) == 8
    assert json.loads(server.get("/v1/optimization/status"))["load"]["inside"] == 0


def test_sigterm_ends_it(server: VllmServer) -> None:
    """The last test: the server has gone afterwards."""
    server.process.terminate()
    assert server.process.wait(60) == 0
