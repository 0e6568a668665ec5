"""Which requests may go on from each other's keys and values, and when what they left is given up."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from urllib.parse import parse_qs

from trimtab_engine.asgi.answers import Scope, Send, answer, header
from trimtab_engine.config.reuse import KvReuseConfig
from trimtab_engine.engines.common.owners import Header, of_conversation, owner, tenant_headers
from trimtab_engine.engines.common.requests import Wish
from trimtab_engine.engines.common.scopes import Scopes

CONVERSATIONS = "/v1/conversations/"
TIDY_SECONDS = 1.0


class Sharing:
    """`forget` is the generator's. For one event loop."""

    def __init__(self, forget: Callable[[int], None], config: KvReuseConfig) -> None:
        self._config = config
        self._tenants = tenant_headers(config.tenant_headers)
        self._scopes = Scopes(forget, idle_seconds=config.idle_seconds)
        self._tidied = 0.0

    def owned(self, wish: Wish, scope: Scope) -> Wish:
        """The wish with its owner, by the request's headers."""
        if not self._config.enabled:
            return wish
        return replace(wish, owner=self.owner(partial(header, scope), salt=wish.cache_salt))

    def owner(self, headers: Header, *, salt: str | None) -> bytes | None:
        """The owner by the request's headers; None: nothing of it shall be kept."""
        return owner(headers, self._tenants, salt=salt)

    def number(self, owner: bytes, now: float) -> int:
        """The number of the owner's scope at this moment."""
        scope = self._scopes.enter(owner, now)
        self._scopes.leave(scope, now)
        return scope.number

    @asynccontextmanager
    async def running(self, wish: Wish) -> AsyncIterator[int | None]:
        """The scope's number while the request runs; None where it shares with nobody."""
        if wish.owner is None:
            yield None
            return
        scope = self._scopes.enter(wish.owner, time.monotonic())
        try:
            yield scope.number
        finally:
            self._scopes.leave(scope, time.monotonic())

    async def end(self, scope: Scope, send: Send) -> None:
        """Ends a conversation of the caller's; the answer is that of OpenAI's API. `deleted`: whether there was one."""
        name = str(scope["path"]).removeprefix(CONVERSATIONS)
        salts = parse_qs(bytes(scope.get("query_string") or b"").decode("latin-1")).get("cache_salt", [])
        as_header = name.encode("utf-8", "surrogateescape").decode("latin-1")
        whose = of_conversation(partial(header, scope), self._tenants, as_header, salt=salts[-1] if salts else None)
        await answer(send, 200, {"id": name, "object": "conversation.deleted", "deleted": self._scopes.end(whose)})

    def end_all(self) -> int:
        """Nothing that was computed before is used again. How many scopes there were."""
        return self._scopes.end_all()

    def tidy(self) -> None:
        """Looks for conversations that nobody goes on with; asked often, it looks once a second."""
        now = time.monotonic()
        if now - self._tidied >= TIDY_SECONDS:
            self._tidied = now
            self._scopes.tidy(now)
