"""How hypothesis runs everywhere: the same examples each time, so that a change is judged and not luck, and no example
has a time limit, since a busy machine is no failure. New examples are looked for with `make explore`.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_ANY_MACHINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", _ANY_MACHINE, derandomize=True)
settings.register_profile("explore", _ANY_MACHINE, derandomize=False, print_blob=True)
settings.load_profile("explore" if os.environ.get("TRIMTAB_EXPLORE") else "repeatable")
