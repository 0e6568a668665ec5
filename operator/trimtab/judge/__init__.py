"""Judges a canary: Good, Bad or Unknown, with the numbers that the word rests on.

There are two judges. `judge_history(history, policy)` (`sequential/`) looks at what every pod added in every interval
and holds its error rates however often one looks; recordings are judged with it (`replay`). The operator feeds
`judge(request)`, below, until it reads histories (docs/adr/0021).

`judge(request)` runs a chain of named assessments, one file each in `assessments/`, and returns the worst of their
words: Bad beats Unknown beats Good. A reading that is Unknown is never taken as zero and never as a pass.

What is plain in it:

- Each look is judged on its own, over the whole window since the canary served. The bounds are set at three standard
  errors (about 0.13 % one-sided for each look), which keeps repeated looks tolerable; it is no sequential test.
- Dependence among requests is one assumed over-dispersion (`statistics.OVERDISPERSION`), not one that is estimated from
  the stable pods.
- How much pods of one revision differ is not estimated either: the margins against stable are wide enough for two
  identical pods on shared CPUs (25 % in mean ITL and 40 % in mean TTFT were measured), so that only gross regressions
  are Bad by comparison. A regression of 20 % passes.
- There is no filter for a node that slows all its pods for a while.
"""

from trimtab.judge.history import History
from trimtab.judge.judge import judge
from trimtab.judge.request import JudgeRequest, Margins
from trimtab.judge.sequential import Policy, judge_history

__all__ = ["History", "JudgeRequest", "Margins", "Policy", "judge", "judge_history"]
