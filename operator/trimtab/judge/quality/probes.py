"""Reads a probe set from the entries of a ConfigMap: every entry is one text, its key the name of the probe.

`kubectl create configmap NAME --from-file=FOLDER` makes such a ConfigMap from a folder of text files. A file that is
not UTF-8 becomes an entry of `binaryData`, so what stands there is decoded and refused by its name.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trimtab.model.quality import Probe

FEWEST: Final = 12
MOST: Final = 200
LONGEST_BYTES: Final = 8 * 1024
ALL_BYTES: Final = 256 * 1024
_SHORTEST = 16  # characters: less than a few tokens says nothing


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why a probe set cannot be used, with the entry and the way out."""

    message: str


def parse_probes(data: Mapping[str, object], binary: Mapping[str, object]) -> tuple[Probe, ...] | Unusable:
    """The probes of a ConfigMap's `data` and `binaryData`, in the order of their names."""
    entries: dict[str, str] = {}
    for name, value in {**data, **binary}.items():
        text = _decoded(value) if name in binary else value
        if not isinstance(text, str):
            return Unusable(f"Its entry {name!r} is not UTF-8 text. Save the file as UTF-8, or remove the entry.")
        problem = _problem_of(name, text)
        if problem is not None:
            return problem
        entries[name] = text
    if len(entries) < FEWEST:
        return Unusable(f"It holds {len(entries)} texts, and {FEWEST} are the fewest that a comparison can rest on.")
    if len(entries) > MOST:
        return Unusable(f"It holds {len(entries)} texts; remove some, {MOST} are the most.")
    size = sum(len(text.encode()) for text in entries.values())
    if size > ALL_BYTES:
        return Unusable(f"Its texts have {size} bytes together; shorten or remove some, {ALL_BYTES} are the most.")
    return tuple(Probe(name, text) for name, text in sorted(entries.items()))


def _problem_of(name: str, text: str) -> Unusable | None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return Unusable(f"Its entry {name!r} is not UTF-8 text. Save the file as UTF-8, or remove the entry.")
    if len(text.strip()) < _SHORTEST:
        return Unusable(
            f"Its entry {name!r} is empty or shorter than {_SHORTEST} characters. Write more, or remove it."
        )
    if size > LONGEST_BYTES:
        return Unusable(f"Its entry {name!r} has {size} bytes; shorten or divide it, {LONGEST_BYTES} are the most.")
    if "\0" in text:
        return Unusable(f"Its entry {name!r} holds a NUL character, so it is no text. Remove it.")
    return None


def _decoded(value: object) -> str | None:
    try:
        return base64.b64decode(str(value), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
