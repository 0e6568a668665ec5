"""Answers from before our own last write are refused, and a cluster that was restored is believed after a while."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from trimtab.kube.client import Kube
from trimtab.kube.freshness import Stale
from trimtab.kube.kinds import DEPLOYMENTS, PODS
from trimtab.kube.transport import Request


class Server:
    """Answers in turn; what is asked is kept."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self._answers: Iterator[dict[str, Any]] = iter(answers)
        self.asked: list[Request] = []

    def send(self, request: Request) -> dict[str, Any]:
        self.asked.append(request)
        return next(self._answers)

    def close(self) -> None:
        return


def a_deployment(version: object) -> dict[str, Any]:
    return {"metadata": {"namespace": "a", "name": "b", "resourceVersion": version}}


def a_list(version: str) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": version}, "items": []}


def kube(*answers: dict[str, Any]) -> Kube:
    return Kube(Server(*answers), guard=lambda: True)


BODY = {"metadata": {"namespace": "a", "name": "b"}}


async def test_an_object_from_before_our_write_is_refused_with_both_versions() -> None:
    async with kube(a_deployment("12"), a_deployment("9"), a_deployment("12")) as client:
        await client.apply(DEPLOYMENTS, BODY, force=True)
        with pytest.raises(Stale, match=r"get Deployment a/b.*version 9.*before \(12\)"):
            await client.get(DEPLOYMENTS, "a", "b")
        assert await client.get(DEPLOYMENTS, "a", "b") == a_deployment("12")


async def test_a_list_from_before_our_write_of_its_kind_is_refused_and_other_kinds_are_not() -> None:
    async with kube(a_deployment("12"), a_list("11"), a_list("3"), a_list("13")) as client:
        await client.apply(DEPLOYMENTS, BODY, force=True)
        with pytest.raises(Stale, match="list deployments in a"):
            await client.list(DEPLOYMENTS, "a")
        assert await client.list(PODS, "a") == []
        assert await client.list(DEPLOYMENTS, "a") == []


async def test_versions_that_are_no_numbers_are_not_compared() -> None:
    async with kube(a_deployment("v12"), a_deployment("9"), a_deployment("12"), a_deployment("x")) as client:
        await client.apply(DEPLOYMENTS, BODY, force=True)
        assert await client.get(DEPLOYMENTS, "a", "b") == a_deployment("9")
        await client.apply(DEPLOYMENTS, BODY, force=True)
        assert await client.get(DEPLOYMENTS, "a", "b") == a_deployment("x")


async def test_a_cluster_that_stays_in_the_past_was_restored_and_is_believed() -> None:
    async with kube(a_deployment("900"), *[a_deployment("5")] * 9) as client:
        await client.apply(DEPLOYMENTS, BODY, force=True)
        for _ in range(7):
            with pytest.raises(Stale):
                await client.get(DEPLOYMENTS, "a", "b")
        for _ in range(2):
            assert await client.get(DEPLOYMENTS, "a", "b") == a_deployment("5")


async def test_what_lags_now_and_then_is_never_believed() -> None:
    answers = [a_deployment(version) for _ in range(20) for version in ("5", "5", "12")]
    async with kube(a_deployment("12"), *answers) as client:
        await client.apply(DEPLOYMENTS, BODY, force=True)
        for _ in range(20):
            for _ in range(2):
                with pytest.raises(Stale):
                    await client.get(DEPLOYMENTS, "a", "b")
            await client.get(DEPLOYMENTS, "a", "b")
