"""Planning: what was found -> an ordered list of single optimizations, or the reason why nothing is proposed.

Every file in `optimizers/` holds one family: a pure function `(Context) -> Iterable[Optimization | Rejected]`. Effects
come from the documented rules in `rules.py`, as ratios with intervals; `guardrails.py` is the chain of checks that
every optimization passes; `combine.py` orders what is left and states the effect of the whole, never as a sum. The same
request gives the same proposal.

    match propose(request):
        case Plan() as plan: ...          # plan.name, plan.optimizations, plan.trades, plan.result
        case NoPlan(reason, message): ...
"""

from trimtab.plan.calibration.state import State, empty, loads
from trimtab.plan.learning import learn
from trimtab.plan.propose import propose
from trimtab.plan.request import Bounds, Objective, PlanRequest

__all__ = ["Bounds", "Objective", "PlanRequest", "State", "empty", "learn", "loads", "propose"]
