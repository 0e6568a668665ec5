"""A plan on paper: which configuration, layout and number of replicas to start a model with, before anything runs.

match plan_on_paper(PaperRequest(model=shape, device=device, gpus=8, traffic=traffic, targets=targets)):
    case PaperPlan() as plan: plan.chosen, plan.front, plan.steps, plan.rejected
    case Infeasible() as answer: answer.message, answer.nearest
    case NothingFits(message): ...
"""

from trimtab.plan.outlook import Figures
from trimtab.plan.paper.answers import Infeasible, NothingFits, Option, PaperAnswer, PaperPlan, Step
from trimtab.plan.paper.plan import plan_on_paper
from trimtab.plan.paper.request import PaperError, PaperRequest

__all__ = [
    "Figures",
    "Infeasible",
    "NothingFits",
    "Option",
    "PaperAnswer",
    "PaperError",
    "PaperPlan",
    "PaperRequest",
    "Step",
    "plan_on_paper",
]
