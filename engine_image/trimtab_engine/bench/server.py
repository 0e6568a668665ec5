"""The server under the bench: what it says of itself, and its limits. Whatever it does not tell is left out."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from trimtab_engine.load.safety import PrivateResolver, check_url

_MEMORY = re.compile(r"^process_resident_memory_bytes(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_WAIT = 0.05  # seconds between two looks at whether limits are in force


class RefusedError(RuntimeError):
    """The server did not take the limits; the message is its own."""


@dataclass(frozen=True, kw_only=True)
class About:
    """The engine's name and version, the first model, and the status of our layer where there is one."""

    engine: str
    model: str
    version: str | None = None
    status: Mapping[str, Any] = field(default_factory=dict)


class Server:
    """`url` is without /v1. The token file opens the endpoint that changes limits.

    Raises:
        ValueError: the address is neither on this machine nor in a private network.
    """

    def __init__(self, url: str, *, token_file: Path | None = None, api_key: str | None = None) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        check_url(self.url)
        self._token_file = token_file
        self._api_key = api_key

    async def about(self) -> About:
        """Raises OSError or aiohttp's errors where nobody answers."""
        async with self._session() as session:
            async with session.get(f"{self.url}/v1/models") as got:
                got.raise_for_status()
                model = str((await got.json())["data"][0]["id"])
            status = await _document(session, f"{self.url}/v1/optimization/status")
            version = await _document(session, f"{self.url}/version")
        engine = str(status.get("engine") or ("vllm" if version else "unknown"))
        return About(engine=engine, model=model, version=version.get("version"), status=status)

    async def memory_bytes(self) -> float | None:
        """Resident memory as /metrics tells it."""
        async with self._session() as session, session.get(f"{self.url}/metrics") as got:
            found = _MEMORY.search(await got.text()) if got.status == 200 else None
        value = float(found[1]) if found else math.nan
        return value if value > 0 else None

    async def limits(self) -> dict[str, Any]:
        """The limits that are wanted now.

        Raises:
            RefusedError: the server has no limits that could change.
        """
        async with self._session() as session:
            status = await _document(session, f"{self.url}/v1/optimization/status")
        if "limits" not in status:
            raise RefusedError(f"{self.url} has no limits that change while it serves")
        return dict(status["limits"])

    async def configure(self, limits: Mapping[str, Any], *, seconds: float = 30.0) -> float:
        """Changes limits and waits until the engine has made a step with them; how long that took.

        An engine that does nothing makes no step; the limits are in force from its next one on, and nobody waits.

        Raises:
            RefusedError: the server did not take them.
        """
        began = time.monotonic()
        token = self._token_file.read_text(encoding="utf-8").strip() if self._token_file else ""
        headers = {"Authorization": f"Bearer {token}"}
        async with self._session() as session:
            url = f"{self.url}/v1/optimization/configure"
            async with session.post(url, json={"limits": dict(limits)}, headers=headers) as got:
                if got.status != 200:
                    raise RefusedError(f"status {got.status}: {(await got.text())[:300]}")
            while time.monotonic() - began < seconds:
                status = await _document(session, f"{self.url}/v1/optimization/status")
                if status.get("in_force") or not status.get("load", {}).get("inside"):
                    return time.monotonic() - began
                await asyncio.sleep(_WAIT)
        raise RefusedError(f"the limits were not in force within {seconds:g} s")

    def _session(self) -> aiohttp.ClientSession:
        headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}
        connector = aiohttp.TCPConnector(resolver=PrivateResolver())
        return aiohttp.ClientSession(
            connector=connector, trust_env=False, headers=headers, timeout=aiohttp.ClientTimeout(total=30)
        )


async def _document(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    """What is there, or nothing where the server has no such page."""
    async with session.get(url) as got:
        try:
            document = json.loads(await got.read()) if got.status == 200 else {}
        except ValueError:
            return {}
    return document if isinstance(document, dict) else {}
