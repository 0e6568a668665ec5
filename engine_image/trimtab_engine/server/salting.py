"""vLLM's prefix cache, apart by tenant and conversation: each request gets a `cache_salt` of its owner's."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from trimtab_engine.asgi.answers import Scope, header
from trimtab_engine.asgi.rewrite import Change
from trimtab_engine.config.reuse import KvReuseConfig
from trimtab_engine.engines.common.sharing import Sharing


class Salting:
    """The salt of an owner is drawn when it comes, and is another one after its end: vLLM then finds nothing of before,
    and its pages go when they are the longest unused."""

    def __init__(self, config: KvReuseConfig) -> None:
        self.sharing = Sharing(lambda _: None, config)

    def change(self, scope: Scope) -> Change:
        """What is changed in the body of this request. A salt of its own is part of its owner's name."""

        def salted(document: Mapping[str, Any]) -> Mapping[str, Any]:
            given = document.get("cache_salt")
            if given is not None and not isinstance(given, str):
                return document  # vLLM's to refuse
            owner = self.sharing.owner(partial(header, scope), salt=given)
            number = secrets.randbits(63) if owner is None else self.sharing.number(owner, time.monotonic())
            return {**document, "cache_salt": f"{number:016x}"}

        return salted
