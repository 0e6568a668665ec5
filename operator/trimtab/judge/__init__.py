"""Judges a canary: Good, Bad or Unknown, with the numbers that the word rests on.

`judge_history(history, policy)` (`sequential/`) looks at what every pod added to its metrics in every interval, and
holds its error rates however often one looks (docs/judging.md). The operator feeds it from Prometheus, `replay` from
recordings; what comes between, from cumulative samples to a `History`, is the same (`samples`).
"""

from trimtab.judge.history import History
from trimtab.judge.sequential import Policy, judge_history

__all__ = ["History", "Policy", "judge_history"]
