"""Writes `vllm_flags.json` from the real parser of an installed vLLM; run it once per engine version.

    PYTHON_WITH_VLLM -m tests.testkit.emulator.dump_flags tests/testkit/emulator/vllm_flags.json

Only names, arity, kind of value and choices are kept. Nothing of this runs when the emulator runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

# A converter is recognised by what it accepts: (sample, accepted) pairs in the order of `_SAMPLES`.
_SAMPLES = ("7", "1k", "0.5", "auto", "{}")
_KINDS: dict[tuple[bool, ...], str] = {
    (True, False, False, False, False): "int",
    (True, True, False, False, False): "size",
    (True, True, True, False, False): "size",
    (True, True, False, True, False): "size-or-auto",
    (True, True, True, True, False): "size-or-auto",
    (True, False, True, False, False): "float",
    (True, False, True, False, True): "json",
    (False, False, False, False, True): "json",
}


def _accepts(convert: Any, sample: str) -> bool:
    try:
        convert(sample)
    except Exception:  # noqa: BLE001 - any refusal counts
        return False
    return True


def describe(action: argparse.Action) -> dict[str, Any]:
    """Arity, kind and choices of one option of the real parser."""
    described: dict[str, Any] = {"names": list(action.option_strings)}
    if isinstance(action, argparse.BooleanOptionalAction):
        described["names"] = [name for name in action.option_strings if not name.startswith("--no-")]
        described["takes"] = "bool"
    elif action.nargs == 0:
        described["takes"] = "nothing"
    else:
        described["takes"] = {"+": "many", "?": "optional"}.get(str(action.nargs), "one")
        if action.choices:
            described["choices"] = [str(choice) for choice in action.choices if choice is not None]
        elif action.type is not None:
            pattern = tuple(_accepts(action.type, sample) for sample in _SAMPLES)
            described["kind"] = _KINDS.get(pattern, "str")
    return described


def main() -> None:
    """Dumps the options of `vllm serve`."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser())
    rows = [describe(action) for action in parser._actions if action.option_strings and action.dest != "help"]
    rows.sort(key=lambda row: str(row["names"][0]))
    lines = ",\n".join(json.dumps(row, sort_keys=True) for row in rows)
    Path(sys.argv[1]).write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
