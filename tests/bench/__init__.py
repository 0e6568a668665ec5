"""Benchmarks: what is measured, not what is asserted. They run from a checkout in which nothing is installed."""

import sys
from pathlib import Path

for _part in ("operator", "engine_image"):
    _folder = str(Path(__file__).resolve().parents[2] / _part)
    if _folder not in sys.path:
        sys.path.insert(0, _folder)
