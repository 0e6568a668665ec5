"""The same examples each time, so that a change is judged and not luck; new ones are looked for with `make explore`."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore", derandomize=False, print_blob=True)
settings.load_profile("explore" if os.environ.get("TRIMTAB_EXPLORE") else "repeatable")
