"""The emulator where `trimtab-engine serve` looks for vLLM: `python -m vllm.entrypoints.cli.main serve ...`."""

from __future__ import annotations

import sys

from tests.testkit.emulator.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
