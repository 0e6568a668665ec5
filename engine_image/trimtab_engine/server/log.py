"""Where our log goes."""

from __future__ import annotations

import logging
import os


def log_to_stderr() -> None:
    """To stderr: vLLM sets up a handler for its own logger only, and without one ours would be silent."""
    ours = logging.getLogger("trimtab_engine")
    if not ours.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(asctime)s [trimtab] %(message)s", "%m-%d %H:%M:%S"))
        ours.addHandler(handler)
        ours.setLevel(os.environ.get("VLLM_LOGGING_LEVEL", "INFO"))
        ours.propagate = False
