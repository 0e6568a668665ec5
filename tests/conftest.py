"""How hypothesis runs everywhere: the same examples each time, so that a change is judged and not luck, and no example
has a time limit, since a busy machine is no failure. New examples are looked for with `make explore`.

Hypothesis draws constants of the modules that happen to be loaded, which depends on the tests that a worker ran before;
the repeatable examples do without (its `derandomize` does not see to that).
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

_ANY_MACHINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", _ANY_MACHINE, derandomize=True)
settings.register_profile("explore", _ANY_MACHINE, derandomize=False, print_blob=True)
if os.environ.get("TRIMTAB_EXPLORE"):
    settings.load_profile("explore")
else:
    settings.load_profile("repeatable")
    providers._get_local_constants = Constants
