"""The server that stands in for vLLM in the tests of the quality gate answers probes as real vLLM does."""

from __future__ import annotations

import urllib.error
from typing import Any

import pytest

from tests.testkit.client import MODEL_NAME, EngineClient
from tests.testkit.scoring import ScoringServer
from tests.vllm.fixtures import StartVllm, vllm_server
from trimtab.model.quality import Probe
from trimtab.observe.probing import CONTINUATION, body, scored

__all__ = ["vllm_server"]

pytestmark = [pytest.mark.vllm, pytest.mark.emulator]

PROBE = Probe("p", "A small stone that lies still in the river is turned over by the water in spring.")


class StandIn(EngineClient):
    def __init__(self, server: ScoringServer) -> None:
        self.url = f"http://{server.host}:{server.port}"


def shape(value: Any) -> Any:
    """Names and types, and of a list those of its first and of its last element; null is a type of its own."""
    if isinstance(value, dict):
        if any(key.startswith("token_id:") for key in value):
            return {"token_id": shape(next(iter(value.values())))}
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0]), shape(value[-1])] if value else []
    return "number" if isinstance(value, float) else type(value).__name__


def comparable(answer: dict[str, Any]) -> Any:
    """vLLM repeats the log-probabilities of the text in a form of its own, which the prober does not read."""
    (choice,) = answer["choices"]
    return shape({**answer, "choices": [{**choice, "prompt_logprobs": None}]})


def test_the_answer_to_a_probe_has_the_shape_of_vllms_and_is_read_alike(vllm_server: StartVllm) -> None:
    real = vllm_server().post("/v1/completions", body(MODEL_NAME, PROBE))
    with ScoringServer() as server:
        mine = StandIn(server).post("/v1/completions", body(MODEL_NAME, PROBE))
    assert comparable(mine) == comparable(real)
    for answer in (real, mine):
        found = scored(answer)
        assert found.length == CONTINUATION
        assert all(token.startswith("token_id:") for token in found.tokens)
    # One byte is one token of the random model.
    assert scored(real).text_tokens == len(PROBE.text)


def test_another_model_and_a_text_that_is_too_long_are_refused_with_the_same_status(vllm_server: StartVllm) -> None:
    real = vllm_server()
    with ScoringServer() as server:
        for client in (real, StandIn(server)):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                client.post("/v1/completions", {**body("another", PROBE), "model": "another"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        real.post("/v1/completions", body(MODEL_NAME, Probe("long", "x" * 3000)))
