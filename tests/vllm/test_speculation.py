"""Tokens guessed ahead in the real engines: the answer is the same, most guesses are right, and bad ones are dropped.

The model and its draft were trained here on the same small language, so the draft knows most of what the model says.
Answers are compared in 32 bits with those of transformers, token for token.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models import make_llama, train_llama
from tests.testkit.client import MODEL_NAME
from tests.vllm import venv
from tests.vllm.server import ROOT, VllmServer, chain_command, environment
from trimtab_engine.load.client import Target
from trimtab_engine.load.ledger import Ledger
from trimtab_engine.load.runner import Runner, Traffic
from trimtab_engine.load.workload import Lengths, Workload

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.long]

ENGINES = ("vllm", "pytorch", "onnx")
SAID = "The capital of Noria is Talun, and Talun lies in Noria.\n"
PROMPTS = (
    "The capital of Velda is",
    "Sort 4 2 9 1:",
    "Anna has 4 apples in the garden. Ben asks",
    "3 plus 5 is",
    SAID * 3 + "The capital of",
)
ANSWER = 96  # tokens

# What transformers itself generates, token by token.
REFERENCE = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
model.generation_config.eos_token_id = None
found = []
for prompt in json.loads(sys.argv[2]):
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    with torch.no_grad():
        out = model.generate(ids, do_sample=False, max_new_tokens=int(sys.argv[3]), pad_token_id=0)
    found.append(tokenizer.decode(out[0][ids.shape[1]:], skip_special_tokens=True))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def model() -> Path:
    return train_llama.cached(venv.python())


@pytest.fixture(scope="module")
def draft() -> Path:
    return train_llama.cached(venv.python(), train_llama.DRAFT)


@pytest.fixture(scope="module")
def expected(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    program = tmp_path_factory.mktemp("reference") / "reference.py"
    program.write_text(REFERENCE)
    done = subprocess.run(
        [str(venv.python()), str(program), str(model), json.dumps(PROMPTS), str(ANSWER)],
        env={**os.environ, **environment()},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    texts: list[str] = json.loads(done.stdout.splitlines()[-1])
    return texts


@contextlib.contextmanager
def serving(engine: str, name: str, model: Path, **fields: str) -> Iterator[VllmServer]:
    """A server with these fields of the section `speculation`."""
    own = {
        "PYTHONPATH": str(ROOT / "engine_image"),
        "TRIMTAB_ENGINE_SERVED_MODEL_NAME": MODEL_NAME,
        "TRIMTAB_ENGINE_ENGINES__PREFERENCE": f"[{engine}]",
        "TRIMTAB_ENGINE_ENGINES__PYTORCH__DTYPE": "float32",
        "TRIMTAB_ENGINE_ENGINES__ONNX__CACHE_FOLDER": str(make_llama.cache_root() / "engine-converted"),
        **{f"TRIMTAB_ENGINE_SPECULATION__{field.upper()}": value for field, value in fields.items()},
    }
    log = ROOT / "build" / "vllm" / f"speculation-{engine}-{name}.log"
    arguments = ("--enforce-eager", "--dtype", "float32")
    with VllmServer(*arguments, log=log, env=own, model=model, start=chain_command) as server:
        yield server


@pytest.fixture(scope="module", params=[f"{engine} {method}" for engine in ENGINES for method in ("ngram", "draft")])
def server(request: pytest.FixtureRequest, model: Path, draft: Path) -> Iterator[VllmServer]:
    engine, method = str(request.param).split()
    fields = {"method": method, "tokens": "3", **({"draft_model": str(draft)} if method == "draft" else {})}
    with serving(engine, method, model, **fields) as running:
        yield running


def complete(server: VllmServer, prompt: str, **body: object) -> str:
    asked = {"prompt": prompt, "max_tokens": ANSWER, "temperature": 0, "ignore_eos": True, **body}
    return str(server.post("/v1/completions", asked)["choices"][0]["text"])


def told(server: VllmServer) -> Any:
    """What the status tells of speculation."""
    return json.loads(server.get("/v1/optimization/status"))["speculation"]


def counted(server: VllmServer) -> tuple[float, float]:
    """Guessed and accepted tokens, by vLLM's names."""

    def counter(name: str) -> float:
        lines = server.get("/metrics").splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"vllm:spec_decode_num_{name}_total{{"))

    return counter("draft_tokens"), counter("accepted_tokens")


def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never was so"
        time.sleep(0.2)


def test_it_was_checked_before_the_first_request(server: VllmServer) -> None:
    health = json.loads(server.get("/health"))
    assert (health["status"], health["speculation"]["on"]) == ("ok", True), server.log_tail()
    checked = told(server)["checked"]
    assert checked["tokens"] == 3 * 24
    assert checked["guessed"] > 0


def test_the_answers_are_those_without_guesses_and_most_guesses_are_right(
    server: VllmServer, expected: list[str]
) -> None:
    before = counted(server)
    assert [complete(server, prompt) for prompt in PROMPTS] == expected
    guessed, accepted = (now - then for now, then in zip(counted(server), before, strict=True))
    shown = told(server)
    print(server.arguments, shown["method"], f"{accepted:.0f} of {guessed:.0f} right: {accepted / guessed:.3f}")
    assert guessed > 0
    if shown["method"] == "draft":
        assert accepted / guessed > 0.7
    else:
        assert accepted > 0
    eventually(lambda: bool(told(server)["total"]["accepted_tokens"] >= accepted))
    assert told(server)["window"]["acceptance_rate"] is not None


async def test_answers_stay_the_same_when_requests_come_to_one_that_was_alone(
    server: VllmServer, expected: list[str]
) -> None:
    """Our own engines guess for one request at a time; the first goes on without."""

    async def after(seconds: float, prompt: str) -> str:
        await asyncio.sleep(seconds)
        return await asyncio.to_thread(complete, server, prompt)

    asked = [after(0.1 * place, prompt) for place, prompt in enumerate(PROMPTS)]
    assert await asyncio.gather(*asked) == expected
    assert [complete(server, prompt) for prompt in PROMPTS[:2]] == expected[:2]


async def test_under_load_with_temperature_every_request_is_answered(server: VllmServer) -> None:
    ledger = Ledger()
    target = Target(url=server.url + "/v1", model=MODEL_NAME, timeout=300)
    workload = Workload(prompt_tokens=Lengths.parse("uniform:8-64"), output_tokens=Lengths.parse("uniform:4-16"))
    await Runner(target, workload, Traffic(concurrency=6, max_seconds=300, max_requests=24), ledger).run()
    assert (ledger.total.failed, ledger.total.succeeded) == (0, 24)
    assert json.loads(server.get("/v1/optimization/status"))["load"]["inside"] == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_guesses_that_are_wrong_rest_while_the_engine_serves_on(engine: str, model: Path, expected: list[str]) -> None:
    """The draft has random weights: it is right by accident only."""
    bad = {"draft_model": str(make_llama.cached("tiny")), "window_seconds": "1", "fewest_tokens": "20"}
    with serving(engine, "bad", model, method="draft", **bad) as server:
        assert told(server)["on"], server.log_tail()
        until = time.monotonic() + 60
        while told(server)["on"] and time.monotonic() < until:
            assert complete(server, PROMPTS[0]) == expected[0]
        shown = told(server)
        assert (shown["on"], shown["reason"]) == (False, "low_acceptance")
        assert shown["message"] in server.log.read_text(errors="replace")
        # Until the engine has seen the switch, and no answer has a guess any more.
        before, until = None, time.monotonic() + 60
        while counted(server) != before and time.monotonic() < until:
            before = counted(server)
            complete(server, PROMPTS[0])
        assert [complete(server, prompt) for prompt in PROMPTS] == expected
        assert counted(server) == before
        assert json.loads(server.get("/health"))["status"] == "ok"
        assert 'trimtab_engine_speculation_off{reason="low_acceptance"} 1.0' in server.get("/metrics")


def test_a_draft_with_another_vocabulary_is_left_out_and_the_engine_serves(
    model: Path, draft: Path, tmp_path: Path, expected: list[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(draft, other)
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    words["a"], words["b"] = words["b"], words["a"]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with serving("vllm", "other", model, method="draft", draft_model=str(other)) as server:
        health = json.loads(server.get("/health"))
        said = "Nothing is guessed: the draft's tokenizer gives texts other tokens than the model's."
        assert (health["status"], health["reasons"]) == ("degraded", {"speculation_off": said})
        assert 'trimtab_engine_speculation_off{reason="check_failed"} 1.0' in server.get("/metrics")
        assert complete(server, PROMPTS[0]) == expected[0]
        assert counted(server) == (0, 0)
