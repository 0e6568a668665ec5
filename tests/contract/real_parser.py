"""Runs command lines through the parser and the validators of an installed vLLM, in one process.

    PYTHON_WITH_VLLM tests/contract/real_parser.py MODEL < cases.json > verdicts.json

A case is a list of arguments; its verdict is `[exit code, message]`. Nothing is loaded: what vLLM only notices when
it loads the model counts as accepted here.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from typing import Any


def verdict(model: str, arguments: list[str]) -> tuple[int, str]:
    """0: accepted, 1: refused by a validator, 2: refused by the parser."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser(prog="vllm serve"))
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed = parser.parse_args([model, *arguments])
    except SystemExit as ended:
        return int(ended.code or 0), said.getvalue().strip().splitlines()[-1]
    parsed.model = parsed.model_tag
    try:
        AsyncEngineArgs.from_cli_args(parsed).create_engine_config()
    except Exception as refused:  # noqa: BLE001 - the engine ends with 1 for each of them
        return 1, f"{type(refused).__name__}: {refused}"
    return 0, ""


def main() -> None:
    """Cases from standard input, verdicts to standard output; the engine's own talk goes to standard error."""
    cases: list[list[str]] = json.load(sys.stdin)
    answer: list[Any] = []
    with contextlib.redirect_stdout(sys.stderr):
        answer.extend(verdict(sys.argv[1], case) for case in cases)
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
