"""The catalogue against what the engines really accept: recorded help, released sources, recorded refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from trimtab.catalogue import (
    ENGINES,
    EngineCatalogue,
    InvalidValue,
    Knob,
    KnobType,
    UnknownKnob,
    find_engine,
    parse_version,
)
from trimtab.model.config import EngineConfig, KnobValue

TESTS = Path(__file__).parents[2]
HELP = (TESTS / "vllm" / "recordings" / "serve-help-all.txt").read_text(encoding="utf-8")
REFUSED = json.loads((TESTS / "vllm" / "recordings" / "refused.json").read_text(encoding="utf-8"))
# Which of the flags that matter here exist, read from the sources of the released packages.
HISTORY: dict[str, dict[str, list[str]]] = json.loads(
    (Path(__file__).parent / "flag_history.json").read_text(encoding="utf-8")
)
NEVER_WRITTEN = (  # each is refused by the parser of vLLM 0.32
    "swap-space max-batch-size max-seq-len max-batch-tokens max-queued-requests max-num-queued-requests"
    " max-waiting-requests gpu-memory-fraction num-scheduler-steps multi-step-stream-outputs use-v2-block-manager"
    " preemption-mode scheduler-delay-factor delay-factor num-lookahead-slots max-num-partial-prefills"
    " max-long-partial-prefills max-seq-len-to-capture max-context-len-to-capture cuda-graph-sizes speculative-model"
    " num-speculative-tokens ngram-prompt-lookup-max guided-decoding-backend calculate-kv-scales"
    " quantization-param-path rope-scaling rope-theta device task disable-log-requests disable-async-output-proc"
    " disable-frontend-multiprocessing compilation-level worker-use-ray request-timeout policy tp tp-size"
    " enable-radix-cache disable-radix-cache radix-cache-size-gb mem-fraction-static max-running-requests"
    " chunked-prefill-size schedule-policy context-length"
)
NEVER = NEVER_WRITTEN.split()


def engine(name: str = "vllm") -> EngineCatalogue:
    found = find_engine(name)
    assert found is not None
    return found


def an_allowed_value(knob: Knob, version: str) -> KnobValue:
    parsed = parse_version(version)
    assert parsed is not None
    if knob.type is KnobType.BOOLEAN:
        return False
    if knob.type is KnobType.INTEGER:
        return knob.minimum if knob.minimum is not None else 1
    return next(iter(knob.values(parsed)), "some/draft-model")


def names(flags: tuple[str, ...]) -> list[str]:
    return [token[2:] for token in flags if token.startswith("--")]


def recorded_options() -> set[str]:
    return {
        name for line in HELP.splitlines() if re.match(r" {2}-", line) for name in re.findall(r"--([a-z0-9-]+)", line)
    }


def test_every_flag_for_vllm_0_32_is_in_its_own_recorded_help() -> None:
    options = recorded_options()
    assert {"max-num-seqs", "no-enable-prefix-caching"} <= options
    for name, knob in engine().knobs("0.32.0").items():
        values = (True, False) if knob.type is KnobType.BOOLEAN else (an_allowed_value(knob, "0.32.0"),)
        for value in values:
            flags = engine().flags("0.32.0", EngineConfig({name: value}))
            assert flags, name
            assert set(names(flags)) <= options, name


def test_the_closed_choices_for_vllm_0_32_are_those_of_its_recorded_help() -> None:
    for knob in engine().knobs("0.32.0").values():
        if not knob.closed:
            continue
        flag = knob.flag((0, 32, 0))
        assert flag is not None
        match = re.search(rf"--{flag.name} \{{([^}}]+)\}}", HELP)
        assert match is not None, flag.name
        assert set(knob.values((0, 32, 0))) == set(match.group(1).split(",")), knob.name


@pytest.mark.parametrize("name", sorted(HISTORY))
def test_no_version_gets_a_flag_that_its_released_source_lacks(name: str) -> None:
    for version, present in HISTORY[name].items():
        for knob in engine(name).knobs(version).values():
            flag = knob.flag(parse_version(version) or (0, 0, 0))
            assert flag is not None and flag.name in present, (version, knob.name)


@pytest.mark.parametrize("name", sorted(HISTORY))
def test_the_ends_of_the_covered_range_were_read_from_a_release(name: str) -> None:
    versions = [parse_version(version) for version in HISTORY[name]]
    assert min(v for v in versions if v) == engine(name).since


@pytest.mark.parametrize("version", [*HISTORY["vllm"], "0.32.0"])
def test_names_that_vllm_refuses_are_never_emitted(version: str) -> None:
    used = {flag.name for knob in engine().knobs(version).values() for flag in knob.flags}
    assert used.isdisjoint(NEVER)
    assert {name for flag in used for name in (flag, f"no-{flag}")}.isdisjoint(NEVER)


def test_never_emitted_names_are_indeed_absent_from_the_recorded_help() -> None:
    assert recorded_options().isdisjoint(set(NEVER) - {"tp"})


def test_a_value_of_each_kind_is_rendered_as_the_engine_reads_it() -> None:
    config = EngineConfig(
        {
            "maxNumSeqs": 32,
            "enablePrefixCaching": False,
            "enforceEager": True,
            "gpuMemoryUtilizationPercent": 90,
            "kvCacheMemoryMebibytes": 512,
            "speculativeMethod": "ngram",
            "speculativeTokens": 4,
        }
    )
    assert engine().flags("0.32.0", config) == (
        "--no-enable-prefix-caching",
        "--enforce-eager",
        "--gpu-memory-utilization",
        "0.90",
        "--kv-cache-memory-bytes",
        "536870912",
        "--max-num-seqs",
        "32",
        "--speculative-config",
        '{"method":"ngram","num_speculative_tokens":4}',
    )


def test_sglang_turns_its_radix_cache_off_and_has_no_flag_to_turn_it_on() -> None:
    assert engine("sglang").flags("0.5.23", EngineConfig({"enablePrefixCaching": False})) == ("--disable-radix-cache",)
    assert engine("sglang").flags("0.5.23", EngineConfig({"enablePrefixCaching": True})) == ()


def test_a_knob_that_came_later_is_unknown_to_an_earlier_version_and_the_message_says_what_to_do() -> None:
    assert engine().flags("0.32.0", EngineConfig({"maxNumActiveSeqs": 4})) == ("--max-num-active-seqs", "4")
    with pytest.raises(UnknownKnob, match=r"vLLM 0\.20\.2 has no maxNumActiveSeqs\. Remove it") as raised:
        engine().flags("0.20.2", EngineConfig({"maxNumActiveSeqs": 4}))
    assert raised.value.knob == "maxNumActiveSeqs"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"maxNumSeqs": 0}, "maxNumSeqs is at least 1 sequences, not 0"),
        ({"maxNumSeqs": True}, "maxNumSeqs is a whole number"),
        ({"gpuMemoryUtilizationPercent": 101}, "at most 100 percent"),
        ({"enablePrefixCaching": "True"}, "true or false"),
        ({"kvCacheDtype": "int8"}, "kvCacheDtype is one of auto"),
        ({"kvCacheDtype": 8}, "kvCacheDtype is a text"),
        ({"quantization": "--trust-remote-code"}, "begins with a letter or digit"),
        ({"speculativeModel": "a b; c"}, "letters, digits"),
    ],
)
def test_a_value_outside_the_range_is_refused_by_knob(config: dict[str, KnobValue], message: str) -> None:
    with pytest.raises(InvalidValue, match=re.escape(message)) as raised:
        engine().flags("0.32.0", EngineConfig(config))
    assert "spec.engine.config." in str(raised.value)


def test_a_version_that_is_not_known_gets_no_flag_but_a_way_out() -> None:
    for version in ("0.33.0", "0.11.2", "nonsense", ""):
        assert not engine().supports(version)
        assert engine().knobs(version) == {}
        assert engine().flags(version, EngineConfig()) == ()
        with pytest.raises(UnknownKnob, match=r"spec\.engine\.args"):
            engine().flags(version, EngineConfig({"maxNumSeqs": 1}))
    assert engine().supports("v0.32.0") and engine().supports("0.32.1rc1") and engine().supports("0.32.0+cpu")


def test_tgi_is_watched_only() -> None:
    assert not engine("tgi").tunable
    with pytest.raises(UnknownKnob, match="watched only"):
        engine("tgi").flags("3.3.7", EngineConfig({"maxNumSeqs": 1}))


def test_recorded_refusals_that_hold_on_every_machine_are_certain_problems() -> None:
    """Each case is one that a real vLLM 0.32 refused; the exit code is recorded beside it."""
    cases: dict[str, dict[str, KnobValue]] = {
        "max-num-seqs-zero": {"maxNumSeqs": 0},
        "more-sequences-than-batched-tokens": {"maxNumSeqs": 64, "maxNumBatchedTokens": 32},
        "more-active-sequences-than-sequences": {"maxNumSeqs": 8, "maxNumActiveSeqs": 16},
        "unknown-kv-cache-dtype": {"kvCacheDtype": "int8"},
    }
    for recorded, config in cases.items():
        assert REFUSED[recorded]["exit_code"] != 0
        problems = engine().problems("0.32.0", EngineConfig(config))
        assert any(problem.certain for problem in problems), recorded


def test_what_only_this_machine_or_model_refuses_can_still_be_sent() -> None:
    """vLLM refuses these as well, but another machine or model may not: a canary asks the engine."""
    cases: dict[str, dict[str, KnobValue]] = {
        "block-size-16": {"blockSize": 16},
        "unknown-quantization": {"quantization": "nonsense"},
        "fp8-on-this-cpu": {"quantization": "fp8_per_tensor"},
        "context-longer-than-the-model": {"maxModelLen": 9000},
        "kv-cache-too-small": {"kvCacheMemoryMebibytes": 1},
    }
    for recorded, config in cases.items():
        assert REFUSED[recorded]["exit_code"] != 0
        assert not any(problem.certain for problem in engine().problems("0.32.0", EngineConfig(config), device="cpu"))
        flags = engine().flags("0.32.0", EngineConfig(config))
        assert flags[0] == REFUSED[recorded]["arguments"][0]
    [doubt] = engine().problems("0.32.0", EngineConfig({"blockSize": 16}), device="cpu")
    assert "multiple of 32" in doubt and not doubt.certain


def test_combinations_are_refused_in_sentences() -> None:
    def said(config: dict[str, KnobValue]) -> str:
        return " ".join(engine().problems("0.32.0", EngineConfig(config)))

    assert "must be at least maxModelLen" in said(
        {"enableChunkedPrefill": False, "maxNumBatchedTokens": 512, "maxModelLen": 2048}
    )
    assert "needs speculativeMethod" in said({"speculativeTokens": 4})
    assert "needs speculativeTokens" in said({"speculativeMethod": "ngram"})
    assert "has no effect" in said({"kvCacheMemoryMebibytes": 512, "gpuMemoryUtilizationPercent": 90})
    assert said({"maxNumSeqs": 32, "maxNumBatchedTokens": 32}) == ""


def test_defaults_follow_version_and_device() -> None:
    vllm = engine()
    assert vllm.defaults("0.32.0", "cpu")["maxNumSeqs"] == 128
    assert vllm.defaults("0.32.0", "cpu")["blockSize"] == 128
    assert vllm.defaults("0.32.0", "H100")["maxNumSeqs"] == 1024
    assert vllm.defaults("0.32.0", "H100")["maxNumBatchedTokens"] == 8192
    assert vllm.defaults("0.32.0", "NVIDIA-A100-SXM4-80GB")["maxNumSeqs"] == 256
    assert vllm.defaults("0.32.0", "B200")["maxNumBatchedTokens"] == 16384
    assert vllm.defaults("0.26.0", "B200")["maxNumBatchedTokens"] == 8192
    assert vllm.defaults("0.18.1", "L4")["gpuMemoryUtilizationPercent"] == 90
    assert vllm.defaults("0.32.0", "L4")["gpuMemoryUtilizationPercent"] == 92
    assert "maxNumSeqs" not in vllm.defaults("0.32.0", "an-unknown-gpu")
    assert vllm.defaults("9.9", "cpu") == {}
    assert engine("sglang").defaults("0.5.23", "H100")["maxNumBatchedTokens"] == 8192


def test_what_a_person_sets_by_argument_is_found_in_every_spelling() -> None:
    def found(*arguments: str) -> dict[str, KnobValue | None]:
        return dict(engine().set_by_arguments("0.32.0", arguments))

    assert found("--max-num-seqs", "4") == {"maxNumSeqs": 4}
    assert found("--max-num-seqs=4", "--max-num-seqs=8") == {"maxNumSeqs": 8}
    assert found("--max_num_seqs=4") == {"maxNumSeqs": 4}
    assert found("--max-num-seq", "4") == {"maxNumSeqs": 4}
    assert found("--kv-cache-memory-bytes", "1G") == {"kvCacheMemoryMebibytes": 1024}
    assert found("--gpu-memory-utilization", "0.85") == {"gpuMemoryUtilizationPercent": 85}
    assert found("--no-enable-prefix-caching") == {"enablePrefixCaching": False}
    assert found("-tp", "2", "--enforce-eager") == {"tensorParallelSize": 2, "enforceEager": True}
    assert found("--max-model-len", "auto") == {"maxModelLen": None}
    assert found('--speculative-config={"method":"ngram","num_speculative_tokens":4}')["speculativeTokens"] == 4
    assert found("--custom-histogram-buckets={}", "--port", "8000") == {}
    assert dict(
        engine("sglang").set_by_arguments("0.5.23", ["--tensor-parallel-size", "2", "--disable-radix-cache"])
    ) == {
        "tensorParallelSize": 2,
        "enablePrefixCaching": False,
    }


def test_the_effective_value_is_the_argument_then_the_configuration_then_the_default() -> None:
    config = EngineConfig({"maxNumSeqs": 8, "blockSize": 64})
    values = engine().effective("0.32.0", "cpu", config, ["--max-num-seqs", "4", "--max-num-batched-tokens=auto"])
    assert values["maxNumSeqs"] == 4 and values["blockSize"] == 64 and values["enablePrefixCaching"] is True
    assert "maxNumBatchedTokens" not in values  # set, to something that is not understood


def test_the_registry_is_sorted_and_complete() -> None:
    assert list(ENGINES) == sorted(ENGINES) == ["sglang", "tgi", "trimtab", "vllm"]
    assert find_engine("unheard-of") is None
    for catalogue in ENGINES.values():
        knobs = [knob.name for knob in catalogue.all_knobs]
        assert len(knobs) == len(set(knobs))
        assert all(re.fullmatch(r"[a-z][A-Za-z]+", name) for name in knobs)
        assert all(knob.description.endswith(".") for knob in catalogue.all_knobs)
