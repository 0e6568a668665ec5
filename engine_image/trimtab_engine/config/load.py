"""From a YAML text, the environment and the command line to a configuration, or to every problem that they have.

The command line wins over the environment, the environment over the file, the file over the defaults. A variable's name
is the way to the field: `TRIMTAB_ENGINE_SERVER__PORT` is `server.port`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from trimtab_engine.config.model import Config
from trimtab_engine.config.parallel import contradictions

PREFIX = "TRIMTAB_ENGINE_"
# Variables of ours that are no fields.
OTHER = frozenset({"TRIMTAB_ENGINE_CONFIG", "TRIMTAB_ENGINE_RUN"})
# Fields that there were, and what is set in their place.
MOVED = {"engines.onnx.draft_tokens": "speculation.method (ngram) and speculation.tokens, for every engine"}
# Kubernetes gives a pod such variables for each Service; one may be called trimtab-engine.
_SERVICE_LINK = re.compile(r"(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")

Tree = dict[str, Any]


class ConfigError(ValueError):
    """The configuration cannot be used; one line for each problem, each with the field and where it came from."""


def load(text: str | None, environment: Mapping[str, str], given: Mapping[str, Any]) -> Config:
    """The configuration. `text` is the file's, `given` holds the command line's fields by their way (`server.port`)."""
    tree: Tree = {}
    origins: dict[str, str] = {}
    _add(tree, origins, _leaves(_document(text)), "the file")
    problems = list(_add_environment(tree, origins, environment))
    _add(tree, origins, iter(given.items()), "the command line")
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        problems += [_sentence(dict(found), origins) for found in error.errors(include_url=False)]
    else:
        problems += contradictions(config)
        if not problems:
            return config
    raise ConfigError("\n".join(problems))


def fields(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field by its way, with what pydantic knows of it; parts are gone into."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def variable(field: str) -> str:
    """The environment variable of a field."""
    return PREFIX + field.upper().replace(".", "__")


PARTS = frozenset(way.rpartition(".")[0] for way, _ in fields()) | {"engines"}


def _document(text: str | None) -> Tree:
    try:
        document = yaml.safe_load(text or "")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"the file is not YAML: {' '.join(str(error).split())[:300]}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError("the file must be a mapping of fields")
    return {str(name): value for name, value in document.items()}


def _leaves(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict) or (value is None and f"{prefix}{name}" in PARTS):
            yield from _leaves({str(key): inner for key, inner in (value or {}).items()}, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _add(tree: Tree, origins: dict[str, str], leaves: Iterator[tuple[str, Any]], origin: str) -> None:
    for way, value in leaves:
        *parts, last = way.split(".")
        place: Any = tree
        for part in parts:
            place = place.setdefault(part, {}) if isinstance(place, dict) else place
        if isinstance(place, dict):  # else the file has a value where a part belongs, which is told below
            place[last] = value
            origins[way] = origin


def _add_environment(tree: Tree, origins: dict[str, str], environment: Mapping[str, str]) -> Iterator[str]:
    known = {variable(way): way for way, _ in fields()}
    for name in sorted(environment):
        if not name.startswith(PREFIX) or name in OTHER:
            continue
        if name in known:
            _add(tree, origins, iter([(known[name], _value(environment[name]))]), name)
        elif name in (moved := {variable(way): told for way, told in MOVED.items()}):
            yield f"{name}: has become {moved[name]}"
        elif not _SERVICE_LINK.fullmatch(name.removeprefix(PREFIX)):
            near = difflib.get_close_matches(name, known, n=1)
            yield f"{name}: is not known" + (f"; did you mean {near[0]}?" if near else "")


def _value(text: str) -> Any:
    """Lists and null are written as in YAML; pydantic makes numbers of the rest where a field is one."""
    if text == "null" or text[:1] in {"[", "{"}:
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            return text
    return text


def _sentence(error: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    way = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"{way}: is missing; give it in the file, as {variable(way)} or on the command line"
    origin = next((origins[known] for known in (way, way.rpartition(".")[0]) if known in origins), "the file")
    if error["type"] == "extra_forbidden" and way in MOVED:
        return f"{way}: has become {MOVED[way]} (from {origin})"
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(way, [known for known, _ in fields()], n=1)
        return f"{way}: is not known (from {origin})" + (f"; did you mean {near[0]}?" if near else "")
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{way}: {message[:1].lower()}{message[1:]}, and is {str(error['input'])[:100]!r} (from {origin})"
