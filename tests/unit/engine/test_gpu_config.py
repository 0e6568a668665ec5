"""How a model is spread over GPUs: fields, vLLM's flags, and what contradicts what."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.engine.gpus import LAYOUTS, SHAPES
from trimtab_engine.config.gpus import FIELDS
from trimtab_engine.config.load import ConfigError, load
from trimtab_engine.config.model import Config
from trimtab_engine.config.parallel import asked_layout, is_movable, misfits, placed
from trimtab_engine.engines.vllm.command import command
from trimtab_engine.gpus.layout import FLAGS, Layout, given_in, without_sizes
from trimtab_engine.gpus.shape import Heads, Shape, shape_from
from trimtab_engine.server.placing import shape_of

OTHERS = st.sampled_from(
    [
        ("--max-num-seqs", "64"),
        ("--enforce-eager",),
        ("--data-parallel-rpc-port=2000",),
        ("--tokenizer", "t"),
        ("-q", "fp8"),
    ]
)


# vLLM's arguments, the layout in them, and the arguments without it.
Case = tuple[list[str], Layout, list[str]]


@st.composite
def arguments(draw: st.DrawFn) -> Case:
    """vLLM's arguments with sizes among them in any of the ways to write them, the layout, and the others."""
    layout = draw(LAYOUTS)
    words, others = [], []
    sizes = draw(st.permutations([(size, value) for size, value in layout.as_json().items() if value > 1]))
    for size, value in sizes:
        before = draw(st.lists(OTHERS, max_size=2))
        flag = draw(st.sampled_from([*FLAGS[size], FLAGS[size][0].replace("-", "_").replace("__", "--", 1)]))
        written = [flag, str(value)] if draw(st.booleans()) else [f"{flag}={value}"]
        words += [*(word for other in before for word in other), *written]
        others += [word for other in before for word in other]
    return words, layout, others


def configured(**fields: object) -> Config:
    return load(None, {}, {"model": "m", **fields})


def problems(**fields: object) -> list[str]:
    with pytest.raises(ConfigError) as error:
        configured(**fields)
    return str(error.value).splitlines()


@settings(max_examples=100)
@given(arguments())
def test_sizes_in_vllms_arguments_are_understood_however_they_are_written(
    case: Case,
) -> None:
    words, layout, others = case
    config = configured(**{"engines.vllm.arguments": words})
    assert asked_layout(config, "vllm") == layout
    assert list(without_sizes(words)) == others
    assert asked_layout(config, "deepspeed").tensor == layout.tensor
    assert asked_layout(config, "pytorch") == asked_layout(config, "onnx") == Layout()


@settings(max_examples=100)
@given(case=arguments(), by_field=LAYOUTS, other=LAYOUTS)
def test_an_engine_that_is_placed_otherwise_gets_each_size_once(case: Case, by_field: Layout, other: Layout) -> None:
    words = case[0]
    said = {given.size for given in given_in(words)}
    fields = {f"gpus.{FIELDS[size]}": value for size, value in by_field.as_json().items() if size not in said}
    config = configured(**{"engines.vllm.arguments": words, **fields})
    assert placed(config, "vllm", asked_layout(config, "vllm")) is config
    moved = placed(config, "vllm", other)
    assert asked_layout(moved, "vllm") == other
    sizes = given_in(command(moved))
    assert len({given.size for given in sizes}) == len(sizes)
    assert Config.model_validate(moved.model_dump(mode="json")) == moved
    assert placed(config, "deepspeed", other).engines.deepspeed.tensor_parallel == other.tensor


@settings(max_examples=100)
@given(case=arguments(), field=st.sampled_from(sorted(FIELDS)), value=st.integers(1, 64))
def test_a_size_that_is_given_twice_is_refused_with_both_places(case: Case, field: str, value: int) -> None:
    words = case[0]
    named = f"gpus.{FIELDS[field]}"
    flags = [given for given in given_in(words) if given.size == field]
    if not flags:
        config = configured(**{"engines.vllm.arguments": words, named: value})
        assert asked_layout(config, "vllm").as_json()[field] == value
        return
    said = problems(**{"engines.vllm.arguments": words, named: value})
    assert said == [
        f"{named}: is {value}, and {flags[0].flag} in engines.vllm.arguments is {flags[0].value}; "
        "leave out one of the two"
    ]


@settings(max_examples=100)
@given(layout=LAYOUTS, shape=SHAPES, gpus=st.none() | st.integers(1, 64), engine=st.sampled_from(["vllm", "deepspeed"]))
def test_what_the_model_or_the_machine_does_not_allow_is_refused_and_nothing_else(
    layout: Layout, shape: Shape, gpus: int | None, engine: str
) -> None:
    layout = layout if engine == "vllm" else Layout(tensor=layout.tensor)
    fields = {f"gpus.{FIELDS[size]}": value for size, value in layout.as_json().items() if value > 1}
    config = configured(**{"engines.preference": [engine, "pytorch"], **fields})
    assert shape.kv_heads is not None
    # As vLLM's configuration and its attention layers check it, and as AutoTP needs it.
    kv_fits = shape.kv_heads % layout.tensor == 0 or (engine == "vllm" and layout.tensor % shape.kv_heads == 0)
    fits = [
        shape.heads % layout.tensor == 0 and kv_fits,
        layout.pipeline <= shape.layers,
        gpus is None or layout.gpus <= gpus,
    ]
    said = misfits(config, shape, gpus)
    assert len(said) == fits.count(False)
    assert all(any(line.startswith(f"gpus.{field}: ") for field in FIELDS.values()) for line in said)
    assert misfits(config, None, None) == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"engines.preference": ["deepspeed", "vllm"], "gpus.pipeline_parallel": 2},
            "gpus.pipeline_parallel: is 2, and deepspeed has no pipeline parallelism; put vllm first in "
            "engines.preference, or leave it out",
        ),
        (
            {"engines.preference": ["pytorch"], "gpus.tensor_parallel": 2},
            "gpus.tensor_parallel: is 2, and pytorch has no tensor parallelism; put vllm or deepspeed first in "
            "engines.preference, or leave it out",
        ),
        (
            {"engines.deepspeed.tensor_parallel": 2, "gpus.tensor_parallel": 4},
            "engines.deepspeed.tensor_parallel: is 2, and gpus.tensor_parallel is 4; leave out one of the two",
        ),
        (
            {"engines.vllm.arguments": ["--tensor-parallel-size"]},
            "engines.vllm.arguments: --tensor-parallel-size must be a whole number from 1 on, and is ''",
        ),
        (
            {"engines.vllm.arguments": ["-pp=zero"]},
            "engines.vllm.arguments: -pp must be a whole number from 1 on, and is 'zero'",
        ),
    ],
)
def test_a_contradiction_names_the_field_and_the_way_out(fields: dict[str, object], said: str) -> None:
    assert problems(**fields) == [said]


def test_all_that_is_wrong_is_told_at_once() -> None:
    said = problems(**{"engines.preference": ["onnx"], "gpus.tensor_parallel": 2, "gpus.data_parallel": 2})
    assert [line.partition(":")[0] for line in said] == ["gpus.tensor_parallel", "gpus.data_parallel"]


def test_without_the_fields_vllm_is_started_as_before() -> None:
    assert given_in(command(configured())) == ()
    config = configured(**{"gpus.tensor_parallel": 4, "gpus.data_parallel": 2})
    assert [(given.flag, given.value) for given in given_in(command(config))] == [
        ("--tensor-parallel-size", "4"),
        ("--data-parallel-size", "2"),
    ]


def test_sizes_come_from_the_environment_and_the_file() -> None:
    environment = {"TRIMTAB_ENGINE_GPUS__TENSOR_PARALLEL": "4"}
    config = load("{model: m, gpus: {pipeline_parallel: 2, recover: false}}", environment, {})
    assert asked_layout(config, "vllm") == Layout(tensor=4, pipeline=2)
    assert not config.gpus.recover


def test_what_is_spread_over_machines_is_not_ours_to_move() -> None:
    for word in ("--nnodes=2", "--data_parallel_rank"):
        config = configured(**{"engines.vllm.arguments": [word, "-tp", "3"]})
        assert not is_movable(config, "vllm")
        assert misfits(config, Shape(heads=4, kv_heads=4, layers=1), 1) == []


def test_the_shape_is_read_from_the_models_folder(tmp_path: Path) -> None:
    config = configured(model=str(tmp_path))
    assert shape_of(config) is None
    document = {"num_attention_heads": 32, "num_key_value_heads": 8, "num_hidden_layers": 36}
    (tmp_path / "config.json").write_text(json.dumps(document))
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x" * 100)
    assert shape_of(config) == Shape(heads=32, kv_heads=8, layers=36, weight_bytes=100)
    rounded = configured(model=str(tmp_path), **{"engines.vllm.arguments": ["--quantization=fp8"]})
    assert shape_of(rounded) == Shape(heads=32, kv_heads=8, layers=36)
    (tmp_path / "config.json").write_text("{")
    assert shape_of(config) is None


def test_shapes_of_models_that_say_it_otherwise() -> None:
    gpt = {"n_head": 12, "n_layer": 6}
    assert shape_from(gpt) == Shape(heads=12, kv_heads=12, layers=6)
    several = {"text_config": {"num_attention_heads": 16, "num_key_value_heads": 2, "num_hidden_layers": 4}}
    assert shape_from(several) == Shape(heads=16, kv_heads=2, layers=4)
    compressed = {"num_attention_heads": 16, "num_key_value_heads": 3, "num_hidden_layers": 4, "kv_lora_rank": 512}
    assert shape_from(compressed) == Shape(heads=16, kv_heads=None, layers=4)
    assert shape_from({"num_attention_heads": True, "num_hidden_layers": 4}) is None
    assert Shape(heads=16, kv_heads=None, layers=4).possible(Heads.SHARED, 8) == (1, 2, 4, 8)
