import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.api.builders import configs, llmdeployment
from trimtab.catalogue import CatalogueError, find_engine
from trimtab.model.config import EngineConfig
from trimtab.model.reason import Reason
from trimtab.render import RenderError, config_in, engine_args, with_config, without_knobs

VERSION = "0.32.0"
_found = find_engine("vllm")
assert _found is not None
VLLM = _found


def test_the_command_line_says_what_is_served_then_the_plan_then_what_the_user_locked() -> None:
    spec = llmdeployment(engine={"args": ["--seed", "7"]}).spec
    arguments = engine_args(spec, VLLM, EngineConfig({"maxNumSeqs": 8, "enablePrefixCaching": False}))
    assert arguments == (
        *("/models/m75", "--served-model-name", "m75", "--port", "8000", "--shutdown-timeout", "120"),
        *("--no-enable-prefix-caching", "--max-num-seqs", "8"),
        *("--seed", "7"),
    )


def test_a_version_that_lacks_a_flag_does_not_get_it() -> None:
    spec = llmdeployment(engine={"version": "0.20.0"}).spec
    assert "--shutdown-timeout" not in engine_args(spec, VLLM, EngineConfig())
    with pytest.raises(RenderError, match="maxNumActiveSeqs") as refused:
        engine_args(spec, VLLM, EngineConfig({"maxNumActiveSeqs": 4}))
    assert refused.value.reason is Reason.INVALID_SPEC


def test_sglang_listens_for_the_cluster_and_exports_metrics() -> None:
    sglang = find_engine("sglang")
    assert sglang is not None
    spec = llmdeployment(engine={"name": "sglang", "version": "0.5.23", "port": 30000}).spec
    arguments = engine_args(spec, sglang, EngineConfig())
    assert arguments[arguments.index("--host") + 1] == "0.0.0.0"
    assert arguments[arguments.index("--port") + 1] == "30000"
    assert "--enable-metrics" in arguments


def test_an_engine_that_nobody_knows_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(RenderError, match="sglang, tgi, trimtab, vllm") as refused:
        engine_args(llmdeployment(engine={"name": "oracle"}).spec, VLLM, EngineConfig())
    assert refused.value.reason is Reason.UNKNOWN_ENGINE


@pytest.mark.parametrize(
    "tokens",
    [
        ["/m", "--max-num-seqs", "1", "--seed", "7"],
        ["/m", "--max-num-seqs=1", "--seed", "7"],
        ["--max_num_seqs", "1", "/m", "--seed", "7"],
    ],
)
def test_a_planned_flag_replaces_the_one_that_is_there_however_it_is_written(tokens: list[str]) -> None:
    assert with_config(VLLM, VERSION, tokens, EngineConfig({"maxNumSeqs": 8})) == (
        *("/m", "--seed", "7"),
        *("--max-num-seqs", "8"),
    )


def test_a_switch_takes_no_value_with_it() -> None:
    tokens = ["--no-enable-prefix-caching", "/m", "--enforce-eager", "-tp", "2"]
    assert without_knobs(VLLM, VERSION, tokens) == ("/m",)


def test_only_the_flags_of_the_named_knobs_go() -> None:
    tokens = ["/m", "--max-num-seqs", "1", "--block-size", "32"]
    assert without_knobs(VLLM, VERSION, tokens, frozenset({"blockSize"})) == ("/m", "--max-num-seqs", "1")


def test_keys_of_a_json_argument_that_no_knob_stands_for_are_kept() -> None:
    tokens = ["/m", "--speculative-config", '{"method":"ngram","num_speculative_tokens":4,"seed":3}']
    config = config_in(VLLM, VERSION, tokens).with_changes({"speculativeTokens": 2})
    *rest, value = with_config(VLLM, VERSION, tokens, config)
    assert rest == ["/m", "--speculative-config"]
    assert json.loads(value) == {"method": "ngram", "num_speculative_tokens": 2, "seed": 3}


def test_a_value_that_is_not_understood_stays_as_it_is() -> None:
    tokens = ["/m", "--max-num-seqs", "$(SEQS)"]
    assert with_config(VLLM, VERSION, tokens, EngineConfig({"blockSize": 32})) == (*tokens, "--block-size", "32")
    assert with_config(VLLM, VERSION, tokens, EngineConfig({"maxNumSeqs": 2})) == ("/m", "--max-num-seqs", "2")


def _emittable(config: EngineConfig) -> bool:
    try:
        VLLM.flags(VERSION, config)
    except CatalogueError:
        return False
    return True


@given(configs.filter(_emittable), configs.filter(_emittable), st.permutations(["/m", "--seed=7", "--api-key=x"]))
def test_one_configuration_can_take_the_place_of_any_other_and_the_rest_stays(
    before: EngineConfig, after: EngineConfig, rest: list[str]
) -> None:
    first = with_config(VLLM, VERSION, rest, before)
    assert with_config(VLLM, VERSION, first, after) == with_config(VLLM, VERSION, rest, after)
    assert without_knobs(VLLM, VERSION, first) == tuple(rest)
