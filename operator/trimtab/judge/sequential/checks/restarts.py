"""Has the canary crashed?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trimtab.judge.history import RESTARTS
from trimtab.judge.sequential.case import Case
from trimtab.judge.words import bad
from trimtab.model.reason import Reason
from trimtab.model.verdict import Verdict

_CRASH_LOOP = 2  # times that the counters began anew, where no counter of restarts tells


def restarts(case: Case) -> Iterator[Verdict]:
    """Bad at the first restart of a container that stable's did not share, or when counters begin anew repeatedly.

    Counters that begin anew once, without a restart that was counted, are another process behind the same name: the
    interval is left out.
    """
    history = case.history
    if not history.canary.any():
        return
    counted = history.counters.get(RESTARTS)
    if counted is not None and np.isfinite(counted[:, history.canary]).any():
        totals = np.nansum(np.maximum(counted, 0.0), axis=0)
    else:
        totals = history.resets.sum(axis=0) / _CRASH_LOOP
    ours = float(totals[history.canary].max())
    theirs = float(totals[history.stable].max()) if history.stable.any() else 0.0
    if ours >= 1 and ours > theirs:
        message = f"A canary pod restarted ({ours:.0f} times, stable pods at most {theirs:.0f})."
        yield bad(Reason.CANARY_CRASH_LOOP, message, {"canary.restarts": ours, "stable.restarts": theirs})
