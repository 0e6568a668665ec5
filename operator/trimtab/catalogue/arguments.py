"""What a user's own arguments already set: such knobs are locked, and their values count as the effective ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from trimtab.catalogue.knob import Flag, Knob, KnobType, Rendering, Version
from trimtab.model.config import KnobValue

_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT]?)")
_SCALE = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "K": 1 << 10,
    "M": 1 << 20,
    "G": 1 << 30,
    "T": 1 << 40,
}
# Short spellings that vLLM and SGLang accept beside the flags in the catalogue (their `--help`).
_ALIASES: Mapping[str, str] = {
    "-tp": "tensor-parallel-size",
    "-pp": "pipeline-parallel-size",
    "-dp": "data-parallel-size",
    "-q": "quantization",
    "-sc": "speculative-config",
    "--device-memory-utilization": "gpu-memory-utilization",
    "--tensor-parallel-size": "tp-size",
    "--pipeline-parallel-size": "pp-size",
    "--data-parallel-size": "dp-size",
}
# Both engines accept abbreviations (argparse), so an unfinished name counts as the knob's own.
_SHORTEST_ABBREVIATION = 4


def set_by_arguments(
    knobs: Mapping[str, Knob], version: Version, arguments: Sequence[str]
) -> dict[str, KnobValue | None]:
    """Knob -> the value that `arguments` give it; None where the value is not understood. Later arguments win."""
    found: dict[str, KnobValue | None] = {}
    for written, value in _pairs(arguments):
        for knob in knobs.values():
            flag = knob.flag(version)
            if flag is None or flag.live:
                continue
            switched_off = flag.rendering is Rendering.SWITCH and _names(written.replace("--no-", "--", 1), flag.name)
            if _names(written, flag.name):
                found[knob.name] = _value(knob, flag, value)
            elif switched_off and written.startswith("--no-"):
                found[knob.name] = False
    return found


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """(flag as written with dashes, value or None)."""
    for index, argument in enumerate(arguments):
        if not argument.startswith("-") or argument.lstrip("-")[:1].isdigit():
            continue
        name, separator, value = argument.partition("=")
        name = name.replace("_", "-")
        # `--speculative-config.method=ngram` is vLLM's spelling of one key of a JSON object.
        name = name.partition(".")[0]
        if separator:
            yield name, value
        else:
            following = arguments[index + 1] if index + 1 < len(arguments) else None
            yield name, following if following is not None and not following.startswith("--") else None


def _names(written: str, flag: str) -> bool:
    if written == f"--{flag}" or _ALIASES.get(written) == flag:
        return True
    return len(written) >= _SHORTEST_ABBREVIATION + 2 and f"--{flag}".startswith(written)


def _value(knob: Knob, flag: Flag, text: str | None) -> KnobValue | None:
    if flag.rendering in (Rendering.SWITCH, Rendering.PRESENCE):
        return True
    if flag.rendering is Rendering.ABSENCE:
        return False
    if text is None:
        return None
    if flag.rendering is Rendering.JSON:
        return _json_value(text, flag.key)
    if knob.type is KnobType.TEXT:
        return text
    number = _number(text)
    if number is None:
        return None
    if flag.rendering is Rendering.PERCENT:
        return round(number * 100)
    if flag.rendering is Rendering.MEBIBYTES:
        return round(number / (1 << 20))
    return round(number)


def _number(text: str) -> float | None:
    match = _SIZE.fullmatch(text.strip())
    return None if match is None else float(match.group(1)) * _SCALE[match.group(2)]


def _json_value(text: str, key: str) -> KnobValue | None:
    try:
        content = json.loads(text)
    except ValueError:
        return None
    value = content.get(key) if isinstance(content, dict) else None
    return value if isinstance(value, bool | int | str) else None
