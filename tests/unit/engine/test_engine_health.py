"""When the server calls itself degraded, and in which words."""

from __future__ import annotations

from dataclasses import replace

from trimtab_engine.server.health import Facts, Reason, degradations

WELL = Facts(settings_problem="", seconds_since_refusal=None, seconds_since_step=0.1, inside=4)


def test_a_server_that_works_is_not_degraded() -> None:
    assert degradations(WELL) == {}
    assert degradations(replace(WELL, seconds_since_refusal=31.0)) == {}


def test_an_engine_that_makes_no_step_while_requests_wait_for_it_is_stalled() -> None:
    found = degradations(replace(WELL, seconds_since_step=42.0))
    assert found == {Reason.STALLED: "The engine made no step for 42 s while 4 requests are inside."}


def test_an_idle_engine_and_one_that_never_made_a_step_are_not_stalled() -> None:
    assert degradations(replace(WELL, seconds_since_step=4200.0, inside=0)) == {}
    assert degradations(replace(WELL, seconds_since_step=None)) == {}


def test_every_reason_is_told_with_its_sentence() -> None:
    facts = Facts(
        settings_problem="document: is empty",
        seconds_since_refusal=3.0,
        seconds_since_step=60.0,
        inside=1,
        fallback="vllm ended by signal 9 while it served.",
        cache_problem="the connection was refused",
        gpu_problem="GPU 3 is degraded: its clocks are lowered.",
        fewer_gpus="The engine computes on tensor 2 instead of tensor 4.",
        guessing_problem="Nothing is guessed: the draft has 600 tokens and the model 512.",
        model_problem="perplexity rises by 5.00 % over 255 tokens, more than 2 %",
    )
    found = degradations(facts)
    assert set(found) == set(Reason)
    assert found[Reason.SETTINGS_REFUSED] == "The settings file changes nothing: document: is empty"
    assert found[Reason.REFUSING] == "Requests were refused 3 s ago."
    assert found[Reason.CACHE] == "The semantic cache does nothing: the connection was refused"
    assert found[Reason.FALLBACK] == "vllm ended by signal 9 while it served."
    assert found[Reason.GPU] == "GPU 3 is degraded: its clocks are lowered."
    assert found[Reason.FEWER_GPUS] == "The engine computes on tensor 2 instead of tensor 4."
    assert found[Reason.GUESSING] == facts.guessing_problem
    assert found[Reason.MODEL].startswith("The quantized model is not what its original is: perplexity rises")
