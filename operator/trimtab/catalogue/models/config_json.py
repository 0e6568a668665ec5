"""The shape of any model from its Hugging Face config.json.

    reading = read_config(json.loads(text), name="acme/model")
    reading.shape      # a ModelShape
    reading.notes      # sentences: what the file leaves open and how it was taken

A field that is missing, contradictory or absurd raises ConfigError, which carries the field. Nothing is filled in
silently but what the model type's own defaults fill in (`reading/families.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trimtab.catalogue.models.reading.attention import attentions
from trimtab.catalogue.models.reading.families import DEFAULTS, KNOWN, LEARNED_POSITIONS, UNSUPPORTED
from trimtab.catalogue.models.reading.feed_forward import feed_forwards
from trimtab.catalogue.models.reading.fields import ConfigError, Fields
from trimtab.catalogue.models.reading.formats import native_formats
from trimtab.catalogue.models.shape import ModelShape
from trimtab.catalogue.models.stacks import mixed, vision_tower

__all__ = ["ConfigError", "ConfigReading", "read_config"]

# Where multimodal models keep the description of their language model.
_NESTED: Final = ("text_config", "llm_config", "language_config")


@dataclass(frozen=True, slots=True)
class ConfigReading:
    """The shape, and sentences about what the file left open."""

    shape: ModelShape
    notes: tuple[str, ...] = ()


def read_config(config: Mapping[str, object], *, name: str) -> ConfigReading:
    """`config` is the parsed config.json; `name` what the shape is called. Raises ConfigError."""
    notes: list[str] = []
    fields, kind = _language_model(config)
    _supported(fields, kind)
    if kind not in KNOWN:
        notes.append(
            f"model_type {kind!r} is not known; its fields are read by the usual rules of decoders with gated "
            "feed-forward layers."
        )
        if fields.get("tie_word_embeddings") is None:
            notes.append("tie_word_embeddings is missing; the head is taken to have weights of its own.")
    hidden = fields.number("hidden_size", "n_embd", "d_model", "n_embed", most=1 << 20)
    layers = fields.number("num_hidden_layers", "n_layer", "n_layers", "num_layers", most=1 << 12)
    positions = fields.number(
        "max_position_embeddings", "n_positions", "seq_length", "max_seq_len", "model_max_length", most=1 << 32
    )
    native, native_experts = native_formats(config, fields)
    shape = ModelShape(
        name=name,
        hidden=hidden,
        vocab=fields.number("vocab_size", most=1 << 24),
        blocks=mixed(
            attentions(fields, kind, hidden, layers, notes),
            feed_forwards(fields, kind, hidden, layers),
        ),
        max_positions=positions,
        tied_embeddings=fields.flag("tie_word_embeddings"),
        native=native,
        native_experts=native_experts,
        other_parameters=_vision(config, notes) + _positions(kind, positions, hidden),
    )
    return ConfigReading(shape, tuple(notes))


def _language_model(config: Mapping[str, object]) -> tuple[Fields, str]:
    """The part that describes the language model, and its model_type."""
    outer = str(config.get("model_type") or "")
    nested = next((key for key in _NESTED if isinstance(config.get(key), Mapping)), None)
    if nested is None:
        if not outer:
            raise ConfigError("model_type", "is missing")
        return Fields(config, "", DEFAULTS.get(outer, {})), outer
    inner = config[nested]
    assert isinstance(inner, Mapping)
    kind = str(inner.get("model_type") or outer)
    if not kind:
        raise ConfigError(f"{nested}.model_type", "is missing")
    defaults = dict(DEFAULTS.get(kind, {}))
    if config.get("tie_word_embeddings") is not None:
        defaults["tie_word_embeddings"] = config["tie_word_embeddings"]
    return Fields(inner, nested, defaults), kind


def _supported(fields: Fields, kind: str) -> None:
    """Structures that would be sized wrongly are refused."""
    way_out = "Use a model of another structure; its memory and speed cannot be predicted yet."
    if kind in UNSUPPORTED:
        raise ConfigError(fields.name("model_type"), f"is {kind}, which has {UNSUPPORTED[kind]}", way_out)
    if fields.get("is_encoder_decoder") is True:
        raise ConfigError(fields.name("is_encoder_decoder"), "is true, and only decoders are known", way_out)
    if fields.optional("num_kv_shared_layers"):
        raise ConfigError(fields.name("num_kv_shared_layers"), "says that layers share a cache", way_out)


def _positions(kind: str, positions: int, hidden: int) -> int:
    extra = LEARNED_POSITIONS.get(kind)
    return 0 if extra is None else (positions + extra) * hidden


def _vision(config: Mapping[str, object], notes: list[str]) -> int:
    """Parameters of the vision tower; a tower without the usual fields is left out, and that is said."""
    described = config.get("vision_config")
    if not isinstance(described, Mapping):
        return 0
    fields = Fields(described, "vision_config")
    layers = fields.optional("num_hidden_layers", "depth", "vt_num_hidden_layers")
    hidden = fields.optional("hidden_size", "vt_hidden_size")
    width = fields.optional("intermediate_size", "vt_intermediate_size")
    if layers and hidden and width:
        return vision_tower(layers, hidden, width, gated=fields.get("model_type") == "pixtral")
    notes.append("vision_config does not have the usual fields; the vision tower's weights are not counted.")
    return 0
