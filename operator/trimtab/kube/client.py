"""The facade through which the whole operator reads from and writes to the API server.

Requests run in a small thread pool of our own, so neither a slow API server nor another library's threads can block the
event loop or each other's share. Every write first asks the guard whether this process still holds the lease.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

from trimtab.kube.errors import Gone, KubeError, NotFound, NotLeader
from trimtab.kube.freshness import Freshness, key_of
from trimtab.kube.kinds import EVENTS, Kind
from trimtab.kube.transport import ApiTransport, Request, Transport, api_client

FIELD_MANAGER = "trimtab"
_APPLY = "application/apply-patch+yaml"
_PAGE = 500
_LIST_ATTEMPTS = 3

Object: TypeAlias = dict[str, Any]
Objects: TypeAlias = list[Object]
Guard = Callable[[], bool]
OnWrite = Callable[[str, str, str], None]


class Kube:
    """The verbs. `guard` is asked before every write; `on_write(verb, kind, outcome)` is told after each one.

    `writes` counts successful writes by (verb, kind). Use it with `async with`, or call `close()`.
    """

    def __init__(
        self, transport: Transport, *, guard: Guard, threads: int = 6, on_write: OnWrite | None = None
    ) -> None:
        self._transport = transport
        self._guard = guard
        self._on_write = on_write
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="kube")
        # The lease must be renewed even while every other thread waits for a slow answer.
        self._own_pool = ThreadPoolExecutor(1, thread_name_prefix="kube-lease")
        self.writes: Counter[tuple[str, str]] = Counter()
        self._freshness = Freshness()

    @classmethod
    def connect(
        cls,
        kubeconfig: Path | None = None,
        *,
        guard: Guard,
        context: str | None = None,
        connect_timeout: float = 3.0,
        read_timeout: float = 10.0,
        threads: int = 6,
        on_write: OnWrite | None = None,
    ) -> Kube:
        """A client for the pod's own cluster, or the one that a kubeconfig names. Raises KubeError without either."""
        transport = ApiTransport(
            api_client(kubeconfig, context=context),
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            connections=threads + 1,
        )
        return cls(transport, guard=guard, threads=threads, on_write=on_write)

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """The object, or None when it does not exist. Stale for one from before our own last write of it."""
        doing = f"get {_called(kind, namespace, name)}"
        key = key_of(kind, namespace, name)
        least = self._freshness.newest(key)
        try:
            found = await self._read(Request(method="GET", path=kind.path(namespace, name), doing=doing))
        except NotFound:
            return None
        self._freshness.check(key, least, found, doing)
        return found

    async def list(self, kind: Kind, namespace: str | None = None, label_selector: str = "") -> Objects:
        """All objects of a kind, in one namespace or in all; read in pages, from the start again when one is gone.

        Stale for a list from before our own last write of that kind.
        """
        for attempt in range(1, _LIST_ATTEMPTS + 1):
            try:
                return await self._list_once(kind, namespace, label_selector)
            except Gone:
                if attempt == _LIST_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    async def _list_once(self, kind: Kind, namespace: str | None, label_selector: str) -> Objects:
        items: Objects = []
        position = ""
        key = key_of(kind)
        least = self._freshness.newest(key)
        while True:
            query = [("limit", str(_PAGE))]
            query += [("labelSelector", label_selector)] if label_selector else []
            query += [("continue", position)] if position else []
            doing = f"list {kind.plural}" + (f" in {namespace}" if namespace else "")
            page = await self._read(Request(method="GET", path=kind.path(namespace), doing=doing, query=tuple(query)))
            self._freshness.check(key, least, page, doing)
            # The items of a list do not carry what they are.
            items += [{"apiVersion": kind.api_version, "kind": kind.name, **item} for item in page.get("items") or []]
            position = str((page.get("metadata") or {}).get("continue") or "")
            if not position:
                return items

    async def apply(
        self,
        kind: Kind,
        body: Mapping[str, Any],
        *,
        force: bool,
        subresource: str | None = None,
        dry_run: bool = False,
        manager: str = FIELD_MANAGER,
    ) -> Object:
        """Server-side apply under a field manager of ours: `body` holds exactly the fields that it wants to own.

        `force` takes fields over from other managers; without it Conflict names them. `dry_run` asks for the verdict of
        the API server alone and is no write.
        """
        metadata = body["metadata"]
        namespace, name = metadata.get("namespace"), metadata["name"]
        query = [("fieldManager", manager), ("force", "true" if force else "false")]
        query += [("dryRun", "All")] if dry_run else []
        request = Request(
            method="PATCH",
            path=kind.path(namespace, name, subresource or ""),
            doing=f"apply {_called(kind, namespace, name)}" + (f" ({subresource})" if subresource else ""),
            query=tuple(query),
            body={"apiVersion": kind.api_version, "kind": kind.name, **body},
            content_type=_APPLY,
        )
        if dry_run:
            return await self._read(request)
        return await self._write("apply", kind, request)

    async def merge_patch(
        self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any], *, manager: str = f"{FIELD_MANAGER}-cli"
    ) -> Object:
        """A JSON merge patch; null removes. NotFound where there is no such object: unlike `apply` it creates none.

        By default it is the command line's: what a person changes belongs to no controller.
        """
        request = Request(
            method="PATCH",
            path=kind.path(namespace, name),
            doing=f"patch {_called(kind, namespace, name)}",
            query=(("fieldManager", manager),),
            body=dict(body),
            content_type="application/merge-patch+json",
        )
        return await self._write("patch", kind, request)

    async def json_patch(
        self, kind: Kind, namespace: str, name: str, operations: Sequence[Mapping[str, Any]], *, manager: str
    ) -> Object:
        """RFC 6902, for single fields in lists that server-side apply can only own as a whole."""
        request = Request(
            method="PATCH",
            path=kind.path(namespace, name),
            doing=f"patch {_called(kind, namespace, name)}",
            query=(("fieldManager", manager),),
            body=[dict(operation) for operation in operations],
            content_type="application/json-patch+json",
        )
        return await self._write("patch", kind, request)

    async def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        propagation: str = "Background",
        uid: str | None = None,
    ) -> bool:
        """Deletes the object; False when it was not there. With `uid` only that very object, else Conflict."""
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid:
            options["preconditions"] = {"uid": uid}
        doing = f"delete {_called(kind, namespace, name)}"
        request = Request(method="DELETE", path=kind.path(namespace, name), doing=doing, body=options)
        try:
            await self._write("delete", kind, request)
        except NotFound:
            return False
        return True

    async def create_event(self, body: Mapping[str, Any]) -> Object:
        """Writes an event under its own name; a second write of the same name changes the first event."""
        return await self.apply(EVENTS, body, force=True)

    async def create(self, kind: Kind, body: Mapping[str, Any], *, guarded: bool = True) -> Object:
        """Creates an object; Conflict when it exists. `guarded=False` is for the lease, which the guard rests on."""
        metadata = body["metadata"]
        request = Request(
            method="POST",
            path=kind.path(metadata.get("namespace")),
            doing=f"create {_called(kind, metadata.get('namespace'), metadata['name'])}",
            query=(("fieldManager", FIELD_MANAGER),),
            body={"apiVersion": kind.api_version, "kind": kind.name, **body},
        )
        return await self._write("create", kind, request, guarded=guarded)

    async def replace(self, kind: Kind, body: Mapping[str, Any], *, guarded: bool = True) -> Object:
        """Replaces an object as it was read: Conflict when its resourceVersion has moved on since."""
        metadata = body["metadata"]
        if not metadata.get("resourceVersion"):
            raise ValueError("replace needs the resourceVersion that was read")
        request = Request(
            method="PUT",
            path=kind.path(metadata.get("namespace"), metadata["name"]),
            doing=f"replace {_called(kind, metadata.get('namespace'), metadata['name'])}",
            query=(("fieldManager", FIELD_MANAGER),),
            body={"apiVersion": kind.api_version, "kind": kind.name, **body},
        )
        return await self._write("replace", kind, request, guarded=guarded)

    async def get_own(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """`get` on the thread that is kept free for the lease."""
        doing = f"get {_called(kind, namespace, name)}"
        try:
            return await self._run(
                self._own_pool, Request(method="GET", path=kind.path(namespace, name), doing=doing), None
            )
        except NotFound:
            return None

    async def close(self) -> None:
        """Lets running requests end, at most for their time-outs, and closes the connections."""
        await asyncio.to_thread(self._shut)

    def _shut(self) -> None:
        for pool in (self._pool, self._own_pool):
            pool.shutdown(wait=True, cancel_futures=True)
        self._transport.close()

    async def __aenter__(self) -> Kube:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _read(self, request: Request) -> Object:
        return await self._run(self._pool, request, None)

    async def _write(self, verb: str, kind: Kind, request: Request, *, guarded: bool = True) -> Object:
        pool = self._pool if guarded else self._own_pool
        try:
            answer = await self._run(pool, request, self._guard if guarded else None)
        except KubeError as error:
            self._tell(verb, kind, type(error).__name__)
            raise
        self.writes[verb, kind.name] += 1
        if verb != "delete":  # answered with a Status, or with what was there
            self._freshness.wrote(kind, answer)
        self._tell(verb, kind, "ok")
        return answer

    async def _run(self, pool: ThreadPoolExecutor, request: Request, guard: Guard | None) -> Object:
        def send() -> Object:
            # Asked in the worker, at the last moment: a request may have waited for a free thread.
            if guard is not None and not guard():
                raise NotLeader(f"{request.doing}: this process does not hold the lease, so nothing was written.")
            return self._transport.send(request)

        return await asyncio.get_running_loop().run_in_executor(pool, send)

    def _tell(self, verb: str, kind: Kind, outcome: str) -> None:
        if self._on_write is not None:
            self._on_write(verb, kind.name, outcome)


def _called(kind: Kind, namespace: str | None, name: str) -> str:
    return f"{kind.name} {namespace}/{name}" if namespace else f"{kind.name} {name}"
