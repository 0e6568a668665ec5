"""The quality gate on real vLLM, with a small model that was trained here, so that its outputs mean something."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models import language, train_llama
from tests.testkit.client import MODEL_NAME
from tests.vllm import venv
from tests.vllm.server import ROOT, VllmServer
from trimtab.judge.quality import NEUTRAL, Question, judge_quality
from trimtab.model.quality import Answers, Budget, Probe
from trimtab.model.verdict import Call, Verdict
from trimtab.observe.http import Limits
from trimtab.observe.probing import Engine, Prober

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.long]

# The language was trained with another seed, so these sentences have not been seen as they are.
PROBES = tuple(Probe(f"p{number:02}", language.text(1000 + number, 200)) for number in range(24))
PATIENT = Limits(connect_timeout=3.0, read_timeout=120.0, deadline=120.0)


def model(variant: str = "") -> Path:
    return train_llama.cached(venv.python(), variant)


def serving(name: str, folder: Path, *arguments: str) -> VllmServer:
    log = ROOT / "build" / "vllm" / f"quality-{name}.log"
    return VllmServer("--enforce-eager", *arguments, log=log, model=folder)


async def asked(server: VllmServer, probes: tuple[Probe, ...] = PROBES) -> Answers:
    async with Prober(PATIENT, seconds=600.0) as prober:
        return await prober.ask(Engine("pod", "127.0.0.1", server.port, MODEL_NAME), probes)


@pytest.fixture(scope="module")
def stable() -> Iterator[VllmServer]:
    with serving("stable", model()) as server:
        yield server


def judged(stable: Answers, again: Answers, canary: Answers, probes: tuple[Probe, ...] = PROBES) -> Verdict:
    question = Question(probes=probes, stable=stable, again=again, canary=canary, budget=Budget())
    verdict = judge_quality(question)
    print(verdict.call.value, verdict.message)  # shown by pytest -rP; docs/quality.md has the figures
    return verdict


async def test_stable_against_itself_and_int8_pass_and_a_broken_quantization_fails(stable: VllmServer) -> None:
    first, second, third = await asked(stable), await asked(stable), await asked(stable)
    itself = judged(first, second, third)
    assert itself.call is Call.GOOD, itself
    assert abs(itself.evidence["perplexity"]) < 0.001 and itself.evidence["disagreement.noise"] < 0.01

    with serving("w8a8", model("w8a8")) as canary:
        int8 = judged(first, second, await asked(canary))
    assert int8.call is Call.GOOD, int8
    assert int8.evidence["perplexity"] != 0.0, "the weights are other ones"

    with serving("wrong-scales", model("w8a8-wrong-scales")) as canary:
        wrong = judged(first, second, await asked(canary))
        plain = await asked(stable, NEUTRAL)
        neutral = judged(plain, await asked(stable, NEUTRAL), await asked(canary, NEUTRAL), NEUTRAL)
    assert wrong.call is Call.BAD, wrong
    assert wrong.evidence["perplexity.low"] > int8.evidence["perplexity.high"]
    assert neutral.call is not Call.GOOD, neutral
