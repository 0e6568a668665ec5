"""Reads a vLLM 0.32 command line as vLLM does, and refuses what vLLM refuses.

Every option of `vllm serve` is known by name, arity, kind and choices (`vllm_flags.json`); those that the simulation
does not use are accepted and ignored. Refusals come in three steps, like the engine's own:

- the parser: exit 2, `vllm: error: unrecognized arguments: --foo` (abbreviations and `_` for `-` are accepted,
  as by vLLM's own parser);
- the validators of the configuration: exit 1, at once (`ConfigRefusedError` with `late=False`);
- what only shows while the engine starts: exit 1, after the start-up delay (`ConfigRefusedError` with `late=True`).
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from .config import ConfigRefusedError, EngineConfig, resolve

_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT])")
_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def size(text: str) -> int:
    """`1k` is 1000, `1K` is 1024, up to `t`/`T`; decimals only with the lower-case letters."""
    text = text.strip()
    match = _SIZE.fullmatch(text)
    if not match:
        return int(text)
    number, suffix = match.groups()
    if suffix in _DECIMAL:
        return int(float(number) * _DECIMAL[suffix])
    if "." in number:
        raise argparse.ArgumentTypeError(
            f"Decimals are not allowed with binary suffixes like {suffix}. "
            f"Did you mean to use {number}{suffix.lower()} instead?"
        )
    return int(number) * _BINARY[suffix]


def _size_or_auto(text: str) -> int:
    return -1 if text.strip().lower() in {"-1", "auto"} else size(text)


_KINDS: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "size": size,
    "size-or-auto": _size_or_auto,
    "json": json.loads,
    "str": str,
}


def known_flags() -> list[dict[str, Any]]:
    """The options of `vllm serve` 0.32, as recorded from its own parser."""
    rows: list[dict[str, Any]] = json.loads(files(__package__).joinpath("vllm_flags.json").read_text("utf-8"))
    return rows


def build_parser() -> argparse.ArgumentParser:
    """The parser of `vllm`, with the one subcommand that the emulator has."""
    parser = argparse.ArgumentParser(prog="vllm", description="vLLM CLI")
    commands = parser.add_subparsers(dest="subparser", metavar="{serve}")
    serve = commands.add_parser("serve", usage="vllm serve [model_tag] [options]")
    serve.add_argument("model_tag", nargs="?")
    for row in known_flags():
        _add(serve, row)
    own = serve.add_argument_group("emulator", "options that only the emulator has")
    own.add_argument("--emulator-profile", metavar="FILE|JSON", help="coefficients of machine and model")
    own.add_argument("--emulator-speed", type=float, help="this many times faster than the profile (1)")
    own.add_argument("--emulator-startup-seconds", type=float, help="seconds until the port is open (1)")
    return parser


def _add(parser: argparse.ArgumentParser, row: dict[str, Any]) -> None:
    names, takes = row["names"], row["takes"]
    if takes == "bool":
        parser.add_argument(*names, action=argparse.BooleanOptionalAction, default=None)
        return
    if takes == "nothing":
        parser.add_argument(*names, action="store_true", default=None)
        return
    arguments: dict[str, Any] = {"default": None}
    if takes == "many":
        arguments["nargs"] = "+"
    elif takes == "optional":
        arguments.update(nargs="?", const=True)
    if "choices" in row:
        arguments["choices"] = row["choices"]
    else:
        arguments["type"] = _KINDS[row.get("kind", "str")]
    if names[0] == "--middleware":
        arguments["action"] = "append"
    parser.add_argument(*names, **arguments)


def normalise(arguments: Sequence[str]) -> list[str]:
    """Underscores in option names become dashes, `-O3` an option, dotted JSON keys one JSON value."""
    plain: list[str] = []
    nested: dict[str, dict[str, Any]] = {}
    pending = list(arguments)
    while pending:
        argument = pending.pop(0)
        if re.fullmatch(r"-O=?\d", argument):
            plain += ["--optimization-level", argument[-1]]
            continue
        if not argument.startswith("--") and not re.match(r"-(cc|sc)\.", argument):
            plain.append(argument)
            continue
        name, equals, value = argument.partition("=")
        head, dot, path = name.partition(".")
        if head.startswith("--"):
            head = "--" + head[2:].replace("_", "-")
        if not dot:
            plain.append(head + equals + value)
            continue
        if not equals:
            value = pending.pop(0) if pending else ""
        _nest(nested.setdefault(head, {}), path.split("."), value)
    for name, keys in nested.items():
        plain += [name, json.dumps(keys)]
    return plain


def _nest(target: dict[str, Any], path: list[str], text: str) -> None:
    for key in path[:-1]:
        target = target.setdefault(key, {})
    try:
        target[path[-1]] = json.loads(text)
    except ValueError:
        target[path[-1]] = text


def parse(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> EngineConfig:
    """The configuration of `vllm serve ...`; `arguments` begin after the program's name.

    `EMULATOR_PROFILE`, `EMULATOR_SPEED` and `EMULATOR_STARTUP_SECONDS` stand in for the emulator's own options, for
    pod templates whose arguments belong to somebody else; `VLLM_API_KEY` is read as by the engine.

    Raises:
        SystemExit: code 2, from the parser, after its message on standard error.
        ConfigRefusedError: a validator of the engine refuses the combination.
    """
    parser = build_parser()
    namespace = parser.parse_args(normalise(arguments))
    if namespace.subparser != "serve":
        parser.print_help()
        raise SystemExit(0)
    flags = {name: value for name, value in vars(namespace).items() if value is not None}
    return resolve({**from_environment(environment or {}), **flags})


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Values of options that were given as environment variables.

    Raises:
        ConfigRefusedError: a value cannot be read.
    """
    found: dict[str, Any] = {}
    for name, kind in (("PROFILE", str), ("SPEED", float), ("STARTUP_SECONDS", float)):
        if text := environment.get(f"EMULATOR_{name}", ""):
            try:
                found[f"emulator_{name.lower()}"] = kind(text)
            except ValueError as error:
                raise ConfigRefusedError(f"ValueError: EMULATOR_{name}: {error}") from error
    if key := environment.get("VLLM_API_KEY", ""):
        found["api_key"] = [key]
    return found
