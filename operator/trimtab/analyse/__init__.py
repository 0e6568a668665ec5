"""Analysis: a snapshot -> what is wrong, how bad, how sure, with the numbers; and the SLO target by target.

`signals.py` derives the named readings once, `slo.py` evaluates the targets, and every file in `detectors/` holds one
pure function `(Signals) -> Bottleneck | None`. An Unknown reading never makes a detector fire and never counts as
zero. A new detector is one file there and one line in `detectors/__init__.py`.

    health = diagnose(snapshot, slo, stable="7c1f0d2a", limits=Limits(max_num_seqs=1))
"""

from trimtab.analyse.diagnose import diagnose
from trimtab.analyse.load import pods_needed
from trimtab.analyse.signals import Limits, Signals, derive
from trimtab.analyse.slo import evaluate

__all__ = ["Limits", "Signals", "derive", "diagnose", "evaluate", "pods_needed"]
