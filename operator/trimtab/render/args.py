"""The engine's command line: what it serves, the planned configuration, and the user's own arguments."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from trimtab.api.v1alpha1 import Spec
from trimtab.catalogue.engine import EngineCatalogue
from trimtab.catalogue.knob import CatalogueError, Rendering, parse_version
from trimtab.model.config import EngineConfig
from trimtab.model.reason import Reason
from trimtab.render.engines import start_of
from trimtab.render.errors import RenderError

_WITHOUT_VALUE = {Rendering.SWITCH, Rendering.PRESENCE, Rendering.ABSENCE}


def engine_args(spec: Spec, catalogue: EngineCatalogue, config: EngineConfig) -> tuple[str, ...]:
    """The arguments of an owned engine. The user's own come last: where both say something, the user's holds.

    Raises RenderError for a knob or a value that this version of the engine lacks.
    """
    return (
        *start_of(spec.engine.name).base(spec),
        *flags_of(catalogue, spec.engine.version, config),
        *(spec.engine.args or ()),
    )


def flags_of(catalogue: EngineCatalogue, version: str, config: EngineConfig) -> tuple[str, ...]:
    """The flags of a configuration. Raises RenderError where the catalogue refuses it."""
    try:
        return catalogue.flags(version, config)
    except CatalogueError as error:
        raise RenderError(Reason.INVALID_SPEC, str(error)) from error


def config_in(catalogue: EngineCatalogue, version: str, tokens: Sequence[str]) -> EngineConfig:
    """The knobs that a command line sets, as far as their values are understood."""
    found = catalogue.set_by_arguments(version, tokens)
    return EngineConfig({knob: value for knob, value in found.items() if value is not None})


def without_knobs(
    catalogue: EngineCatalogue, version: str, tokens: Sequence[str], knobs: frozenset[str] | None = None
) -> tuple[str, ...]:
    """The command line without the flags of `knobs` (None: of all); the other arguments keep their order."""
    return tuple(
        token for piece, names in _pieces(catalogue, version, tokens) if not _taken(names, knobs) for token in piece
    )


def with_config(
    catalogue: EngineCatalogue, version: str, tokens: Sequence[str], config: EngineConfig
) -> tuple[str, ...]:
    """A command line as it is, with the flags of exactly this configuration in place of those that it has.

    A flag whose value is not understood stays as it is, unless the configuration sets its knob. Keys of a JSON argument
    that no knob stands for are kept.
    """
    understood = frozenset(config_in(catalogue, version, tokens)) | frozenset(config)
    dropped = [(piece, names) for piece, names in _pieces(catalogue, version, tokens) if _taken(names, understood)]
    kept = without_knobs(catalogue, version, tokens, understood)
    return (
        *kept,
        *_merged_json(catalogue, version, [piece for piece, _ in dropped], flags_of(catalogue, version, config)),
    )


def _taken(names: frozenset[str], knobs: frozenset[str] | None) -> bool:
    return bool(names) if knobs is None else bool(names & knobs)


def _pieces(
    catalogue: EngineCatalogue, version: str, tokens: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], frozenset[str]]]:
    """The command line in pieces, a flag together with its value, each with the knobs that it sets."""
    index = 0
    while index < len(tokens):
        token, following = tokens[index], tokens[index + 1 : index + 2]
        names = frozenset(catalogue.set_by_arguments(version, (token,)))
        takes_value = names and following and not following[0].startswith("--")
        length = 2 if takes_value and _has_value_token(catalogue, version, names, token) else 1
        yield tuple(tokens[index : index + length]), names
        index += length


def _has_value_token(catalogue: EngineCatalogue, version: str, names: frozenset[str], token: str) -> bool:
    if "=" in token:
        return False
    known, parsed = catalogue.knobs(version), parse_version(version)
    flags = [known[name].flag(parsed) for name in names if name in known] if parsed else []
    return not any(flag is not None and flag.rendering in _WITHOUT_VALUE for flag in flags)


def _merged_json(
    catalogue: EngineCatalogue, version: str, dropped: Sequence[tuple[str, ...]], flags: Sequence[str]
) -> tuple[str, ...]:
    """`flags` with the keys of dropped JSON arguments that no knob stands for."""
    parsed = parse_version(version)
    keys: dict[str, set[str]] = {}
    for knob in catalogue.knobs(version).values():
        flag = knob.flag(parsed) if parsed else None
        if flag is not None and flag.rendering is Rendering.JSON:
            keys.setdefault(f"--{flag.name}", set()).add(flag.key)
    merged = list(flags)
    for piece in dropped:
        name, _, inline = piece[0].partition("=")
        known = keys.get(name)
        rest = _object(inline or piece[-1]) if known else {}
        rest = {key: value for key, value in rest.items() if key not in (known or ())}
        if not rest:
            continue
        if name in merged:
            place = merged.index(name) + 1
            merged[place] = json.dumps({**rest, **_object(merged[place])}, sort_keys=True, separators=(",", ":"))
        # Without any knob of it the object would be incomplete: the feature is off then.
    return tuple(merged)


def _object(text: str) -> Mapping[str, object]:
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
