"""The configuration: sources, defaults, and errors that name the field and where it came from."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab_engine.config.engines import RESERVED
from trimtab_engine.config.load import ConfigError, fields, load, variable
from trimtab_engine.config.model import Config
from trimtab_engine.engines.vllm.command import command

FILE = """
model: /models/m75
served_model_name: m75
settings_file: /etc/trimtab/settings.yaml
server:
  port: 8001
engines:
  vllm:
    arguments: [--max-num-seqs, "64"]
limits:
  max_running_requests: 16
"""


def problems(
    text: str, environment: dict[str, str] | None = None, given_fields: dict[str, object] | None = None
) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load(text, environment or {}, given_fields or {})
    return str(error.value).splitlines()


def test_the_file_fills_in_what_it_names_and_the_rest_has_defaults() -> None:
    config = load(FILE, {}, {})
    assert (config.server.port, config.server.host, config.limits.max_running_requests) == (8001, "0.0.0.0", 16)
    assert config.limits.max_queued_requests is None
    assert config.engines.vllm.arguments == ("--max-num-seqs", "64")


def test_the_command_line_wins_over_the_environment_and_that_over_the_file() -> None:
    environment = {"TRIMTAB_ENGINE_SERVER__PORT": "8002", "TRIMTAB_ENGINE_MODEL": "/models/other"}
    config = load(FILE, environment, {"model": "/models/third"})
    assert (config.server.port, config.model) == (8002, "/models/third")


def test_a_model_is_all_that_is_needed() -> None:
    assert load(None, {"TRIMTAB_ENGINE_MODEL": "m"}, {}) == Config(model="m")


def test_lists_and_null_can_be_given_in_the_environment() -> None:
    environment = {
        "TRIMTAB_ENGINE_ENGINES__VLLM__ARGUMENTS": '["--enforce-eager"]',
        "TRIMTAB_ENGINE_LIMITS__MAX_RUNNING_REQUESTS": "null",
    }
    config = load(FILE, environment, {})
    assert config.engines.vllm.arguments == ("--enforce-eager",)
    assert config.limits.max_running_requests is None


def test_a_part_without_fields_is_as_if_it_were_not_there() -> None:
    assert load("model: m\nserver:\nlimits:\nengines:\n", {}, {}) == Config(model="m")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "model: is missing; give it in the file, as TRIMTAB_ENGINE_MODEL or on the command line"),
        ("{model: m, server: {port: 70000}}", "server.port: input should be less than or equal to 65535, and is"),
        ("{model: m, server: {prot: 1}}", "server.prot: is not known (from the file); did you mean server.port?"),
        ("{model: m, server: 8000}", "server: input should be a valid dictionary or instance of ServerConfig"),
        ("{model: m, limits: {kv_headroom_percent: a}}", "limits.kv_headroom_percent: input should be a valid integer"),
        ("{model: m, engines: {vllm: {arguments: [--port=1]}}}", "engines.vllm.arguments: --port is set by the field"),
        (
            "{model: m, engines: {vllm: {arguments: [--served_model, a]}}}",
            "engines.vllm.arguments: --served-model is set",
        ),
        ("{model: m, server: {request_timeout_seconds: .inf}}", "server.request_timeout_seconds: input should be"),
        ("[", "the file is not YAML: "),
        ("- m", "the file must be a mapping of fields"),
    ],
)
def test_an_error_names_the_field(text: str, said: str) -> None:
    found = problems(text)
    assert len(found) == 1
    assert found[0].startswith(said)


def test_an_error_tells_where_the_value_came_from() -> None:
    found = problems(FILE, {"TRIMTAB_ENGINE_SERVER__PORT": "http"})
    assert found[0].endswith("and is 'http' (from TRIMTAB_ENGINE_SERVER__PORT)")
    assert problems(FILE, given_fields={"server.port": 0})[0].endswith("and is '0' (from the command line)")


def test_all_errors_are_told_at_once() -> None:
    found = problems("{server: {port: a}, limits: {max_wait_seconds: 0}}", {"TRIMTAB_ENGINE_SERVER__PROT": "1"})
    assert [line.partition(":")[0] for line in found] == [
        "TRIMTAB_ENGINE_SERVER__PROT",
        "model",
        "server.port",
        "limits.max_wait_seconds",
    ]


def test_what_kubernetes_says_of_a_service_of_our_name_is_no_error() -> None:
    links = {
        "TRIMTAB_ENGINE_PORT": "tcp://10.0.0.1:8000",
        "TRIMTAB_ENGINE_PORT_8000_TCP_ADDR": "10.0.0.1",
        "TRIMTAB_ENGINE_SERVICE_HOST": "10.0.0.1",
        "TRIMTAB_ENGINE_SERVICE_PORT_HTTP": "8000",
    }
    assert load(FILE, links, {}) == load(FILE, {}, {})


def test_every_field_says_what_it_means_and_has_a_variable() -> None:
    found = dict(fields())
    assert len(found) > 12
    assert all(field.description for field in found.values())
    assert len({variable(way) for way in found}) == len(found)


def test_the_command_sets_each_flag_once() -> None:
    words = command(load(FILE, {}, {}))
    assert words[1:5] == ["-m", "vllm.entrypoints.cli.main", "serve", "/models/m75"]
    flags = [word for word in words if word.startswith("--")]
    assert len(flags) == len(set(flags))
    assert set(RESERVED) - {"--model"} <= set(flags)
    assert words[-2:] == ["--max-num-seqs", "64"]


def config_or_problems(environment: dict[str, str], given_fields: dict[str, object]) -> Config | list[str]:
    try:
        return load(FILE, environment, given_fields)
    except ConfigError as error:
        return str(error).splitlines()


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.lists(st.integers())


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from([variable(way) for way, _ in fields()]), st.text(max_size=30), max_size=5))
def test_any_environment_gives_a_configuration_or_named_problems(environment: dict[str, str]) -> None:
    outcome = config_or_problems(environment, {})
    if isinstance(outcome, Config):
        assert outcome.model
    else:
        assert outcome
        assert all(line.partition(":")[0] for line in outcome)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from([way for way, _ in fields()]), VALUES, max_size=5))
def test_any_value_of_any_field_is_taken_or_refused_with_the_field(values: dict[str, object]) -> None:
    outcome = config_or_problems({}, values)
    if isinstance(outcome, Config):
        assert 1 <= outcome.server.port <= 65535
    else:
        named = {line.partition(":")[0] for line in outcome}
        assert named
        # Fields that do not fit together are told under the part that they belong to.
        assert all(any(name.startswith(way) or way.startswith(f"{name}.") for way in values) for name in named)
