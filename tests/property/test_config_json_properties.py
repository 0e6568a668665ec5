"""A config.json of any content gives a shape or an error that names a field, and nothing else."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.catalogue.published_configs import CONFIGS
from trimtab.catalogue.models import ConfigError, model_parameters, read_config

FIELDS = sorted({key for config in CONFIGS.values() for key in config} | {"layer_types", "kv_lora_rank"})
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 1 << 50),
    st.text(max_size=8),
    st.lists(st.one_of(st.integers(-1, 90), st.text(max_size=4)), max_size=4),
    st.dictionaries(st.sampled_from(FIELDS), st.integers(-1, 5), max_size=3),
)


@settings(max_examples=200)
@given(base=st.sampled_from(sorted(CONFIGS)), changes=st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3))
def test_whatever_stands_in_the_file_the_answer_is_a_shape_or_a_field(base: str, changes: dict[str, object]) -> None:
    with suppress(ConfigError):
        shape = read_config({**CONFIGS[base], **changes}, name=base).shape
        parameters = model_parameters(shape)
        assert 0 < parameters.active <= parameters.total
        assert sum(block.count for block in shape.blocks) == shape.layers
