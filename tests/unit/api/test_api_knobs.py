"""The resource and the catalogue must speak of the same knobs: what the resource lacks, the API server prunes."""

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.api.builders import configs
from trimtab.api.v1alpha1 import KNOB_KINDS, KNOBS, EngineKnobs
from trimtab.api.values import from_text, to_knobs, to_text
from trimtab.catalogue import ENGINES, Knob, KnobType
from trimtab.model.config import EngineConfig

PYTHON = {KnobType.INTEGER: int, KnobType.BOOLEAN: bool, KnobType.TEXT: str}
CATALOGUE: dict[str, list[Knob]] = {}
for _engine in ENGINES.values():
    for _knob in _engine.all_knobs:
        CATALOGUE.setdefault(_knob.name, []).append(_knob)


def test_the_resource_has_a_field_for_every_knob_of_every_engine_and_no_other() -> None:
    assert set(KNOBS) == set(CATALOGUE)


def test_every_field_has_the_type_of_its_knob() -> None:
    assert {name: PYTHON[knob.type] for name, knobs in CATALOGUE.items() for knob in knobs} == KNOB_KINDS


def test_every_value_that_the_catalogue_allows_fits_the_resource() -> None:
    for name, knobs in CATALOGUE.items():
        for knob in knobs:
            bounds = [bound for bound in (knob.minimum, knob.maximum) if bound is not None]
            choices = [choice.value for choice in knob.choices]
            for value in [*bounds, *choices]:
                EngineKnobs.model_validate({name: value})


def test_the_resource_admits_values_that_an_engine_refuses() -> None:
    EngineKnobs.model_validate({"blockSize": 16})
    EngineKnobs.model_validate({"maxNumSeqs": 64, "maxNumBatchedTokens": 32})
    EngineKnobs.model_validate({"quantization": "fp8_per_tensor"})


@given(configs)
def test_a_configuration_survives_the_way_into_the_resource_and_back(config: EngineConfig) -> None:
    found = to_knobs(config).to_config()
    assert found == config
    assert [type(value) for value in found.values()] == [type(value) for value in config.values()]


@given(configs, st.sampled_from(KNOBS))
def test_a_value_survives_as_text(config: EngineConfig, absent: str) -> None:
    for knob, value in config.items():
        found = from_text(knob, to_text(value))
        assert found == value
        assert type(found) is type(value)
    assert from_text(absent, to_text(None)) is None
