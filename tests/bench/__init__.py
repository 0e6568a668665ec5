"""Benchmarks: what is measured, not what is asserted. They run from a checkout in which nothing is installed."""

import sys
from pathlib import Path

_OPERATOR = str(Path(__file__).resolve().parents[2] / "operator")
if _OPERATOR not in sys.path:
    sys.path.insert(0, _OPERATOR)
