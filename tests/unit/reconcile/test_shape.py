"""The model's shape: by name, or from its config.json in the spec, which changes no pod."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.reconcile.resources import owned
from trimtab.catalogue import ENGINES, find_engine
from trimtab.model.reason import Reason
from trimtab.reconcile.shape import shape_of
from trimtab.reconcile.spec_checks import Subject, problem_of
from trimtab.render import template_hash

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def serving(config: str | None = None, **model: str) -> Any:
    fields = {"name": "acme", "source": "/models/acme", **model}
    return owned(model=fields if config is None else {**fields, "configJson": config})


def test_a_known_name_has_its_shape_and_another_one_has_none() -> None:
    assert shape_of(serving(source="meta-llama/Llama-3.1-8B-Instruct")) is not None
    assert shape_of(serving()) is None


def test_any_other_model_is_described_by_its_config_json() -> None:
    shape = shape_of(serving(json.dumps(CONFIG)))
    known = shape_of(serving(source="meta-llama/Llama-3.1-8B-Instruct"))
    assert shape is not None and known is not None
    assert (shape.hidden, shape.blocks) == (known.hidden, known.blocks)


def test_a_description_starts_no_new_revision() -> None:
    assert template_hash(serving(json.dumps(CONFIG))) == template_hash(serving())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no JSON", "no JSON"),
        ("[1]", "no JSON object"),
        (json.dumps({**CONFIG, "hidden_size": -1}), "hidden_size"),
        (json.dumps({"model_type": "llama"}), "hidden_size"),
    ],
)
def test_one_that_cannot_be_read_names_the_field(text: str, words: str) -> None:
    deployment = serving(text)
    subject = Subject(
        deployment=deployment, engine=find_engine("vllm"), engines=tuple(ENGINES), target=None, siblings=()
    )
    problem = problem_of(subject)
    assert problem is not None and problem.reason is Reason.INVALID_SPEC
    assert problem.message.startswith("spec.model.configJson: ") and words in problem.message
    assert shape_of(deployment) is None
