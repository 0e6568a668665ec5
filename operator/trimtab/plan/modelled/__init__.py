"""Plans from the performance model, where the model's shape, the GPU and the engine are known.

    match modelled(context):
        case Plan() as plan: ...     # every effect predicted, with its interval
        case NothingBetter(): ...    # the rules may still speak of knobs that the model does not weigh
        case None: ...               # too little is known: the documented rules answer

In the order of the files: `subject` (what runs, as the performance model takes it), `choices` (every configuration that
may be proposed), `weighed` (their forecasts, with what was measured), `goal` (what counts and what must be kept),
`choose` (the configuration to go for), `way` (the single optimizations that lead there), `rejected` (the alternatives),
`plan` (all of it in order).
"""

from trimtab.plan.modelled.plan import NothingBetter, modelled
from trimtab.plan.modelled.subject import KNOBS, Subject, subject_of

__all__ = ["KNOBS", "NothingBetter", "Subject", "modelled", "subject_of"]
