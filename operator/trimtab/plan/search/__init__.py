"""Search: which configuration is best, which to try next, and the single steps that lead there.

Everything works on columns, a row per candidate configuration: what the performance model says of each (`Candidates`),
what a person wants (`Goal`), and what was measured so far (`Observation`).
"""

from trimtab.plan.search.candidates import Candidates, Estimate, Goal, Limit, Observation
from trimtab.plan.search.explore import Advice, Stop, next_canary
from trimtab.plan.search.pareto import pareto_front
from trimtab.plan.search.steps import Ratio, path, ratio

__all__ = [
    "Advice",
    "Candidates",
    "Estimate",
    "Goal",
    "Limit",
    "Observation",
    "Ratio",
    "Stop",
    "next_canary",
    "pareto_front",
    "path",
    "ratio",
]
