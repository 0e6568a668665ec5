"""The chain of checks and the one word that comes out of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from trimtab.judge.history import History
from trimtab.judge.sequential.case import Case
from trimtab.judge.sequential.checks.backlog import queued_requests
from trimtab.judge.sequential.checks.errors import error_burst, error_share
from trimtab.judge.sequential.checks.gross import far_beyond_objective, far_slower_than_stable
from trimtab.judge.sequential.checks.means import mean_latencies
from trimtab.judge.sequential.checks.objectives import latency_objectives
from trimtab.judge.sequential.checks.preemptions import preemptions
from trimtab.judge.sequential.checks.promises import promises
from trimtab.judge.sequential.checks.readable import readable
from trimtab.judge.sequential.checks.restarts import restarts
from trimtab.judge.sequential.checks.stuck import stuck_requests
from trimtab.judge.sequential.checks.tails import tail_latencies
from trimtab.judge.sequential.checks.throughput import throughput_objective
from trimtab.judge.sequential.checks.traffic import comparable_load, enough_evidence
from trimtab.judge.sequential.measured import measured
from trimtab.judge.sequential.policy import Policy
from trimtab.model.reason import Reason
from trimtab.model.verdict import Call, Verdict, worst

Check = Callable[[Case], Iterable[Verdict]]

# In the order in which they are told: among equals, the first is the one that a person reads.
CHECKS: tuple[Check, ...] = (
    restarts,  # a crash needs no statistics
    error_burst,
    stuck_requests,  # histograms count only what ended
    queued_requests,  # nor those that wait
    far_beyond_objective,
    readable,  # what cannot be read is neither good nor bad
    enough_evidence,
    comparable_load,
    far_slower_than_stable,
    error_share,
    latency_objectives,
    mean_latencies,  # shifts inside a bucket
    tail_latencies,  # a few slow ones, which the mean hides
    preemptions,
    throughput_objective,
    promises,  # last: no worse, but is it better?
)


def judge_history(history: History, policy: Policy) -> Verdict:
    """The verdict after the last interval of `history`, which holds the canary's from its first on.

    Bad if any check says so, Unknown if any cannot tell, else Good. Looked at after every interval and ended by the
    first Good or Bad, it calls a canary like stable Bad in at most one of a hundred (docs/judging.md). The verdict
    depends on `history` and `policy` alone, so an operator that was restarted decides the same.
    """
    case = Case(history, policy)
    verdicts = [verdict for check in CHECKS for verdict in check(case)]
    word = worst(verdicts)
    evidence = measured(case)
    for verdict in verdicts:
        evidence.update(verdict.evidence)
    evidence = {name: value for name, value in evidence.items() if math.isfinite(value)}
    if word.call is Call.GOOD:
        reason = Reason.NOT_WORSE_THAN_STABLE if policy.slo.is_empty else Reason.WITHIN_SLO
        return Verdict(Call.GOOD, reason, " ".join(verdict.message for verdict in verdicts), evidence)
    return Verdict(word.call, word.reason, word.message, evidence)
