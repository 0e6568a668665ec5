"""One service under load with Trimtab at work on it: the steps that the demo and the tests share."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tests.e2e.access import Access, AnswerError
from tests.e2e.loadgen import Load, LoadGenerator
from tests.e2e.manifests import MODEL, Service
from tests.e2e.pods import DEPLOYMENT, PodWatch
from tests.e2e.view import Attempt, View, look
from tests.e2e.waiting import DidNotHappenError


def knobs(config: Mapping[str, Any]) -> str:
    """A configuration in words."""
    return ", ".join(f"{knob}: {json.dumps(value)}" for knob, value in sorted(config.items()))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What became of a change, and when; instants in seconds since the epoch.

    `served_at`: its first pod was ready. `restored_at`: the stable pods were the only ones again. `stable_min_ready`:
    the smallest number of ready stable pods from the change on.
    """

    attempt: Attempt
    changed_at: float
    served_at: float | None
    restored_at: float
    stable_min_ready: int


class Scenario:
    """`glance` looks once and takes as long as one may wait between two looks."""

    def __init__(
        self,
        access: Access,
        namespace: str,
        service: Service,
        pods: PodWatch,
        load: LoadGenerator,
        glance: Callable[[], View] | None = None,
    ) -> None:
        self.access = access
        self.namespace = namespace
        self.service = service
        self.pods = pods
        self.load = load
        self.glance = glance or self._look_and_sleep

    def _look_and_sleep(self) -> View:
        time.sleep(1.0)
        return self.view()

    def view(self) -> View:
        """The resource as it is now."""
        return look(self.access, self.namespace, self.service.name)

    def until(self, what: str, holds: Callable[[View], bool], *, seconds: float) -> View:
        """The first look for which `holds`; one that a busy API server does not answer is none.

        Raises:
            DidNotHappenError: `seconds` are over.
        """
        ends = time.monotonic() + seconds
        while True:
            found: View | AnswerError
            try:
                found = self.glance()
            except AnswerError as error:
                if not error.passes:
                    raise
                found = error
            if isinstance(found, View) and holds(found):
                return found
            if time.monotonic() >= ends:
                raise DidNotHappenError(
                    f"{what}: not within {seconds:.0f} s. Pods {self.pods.now()}; {found}; {self.load.told()}"
                )

    def create(self, **spec: Any) -> None:
        """Applies the service; `spec` is merged into its spec."""
        document = self.service.document()
        self.access.handle.apply(yaml.safe_dump(document), namespace=self.namespace)
        if spec:
            self.patch(spec)

    def patch(self, spec: Mapping[str, Any]) -> None:
        """What a user does with `kubectl patch --type=merge`."""
        self.access.patch_resource(self.namespace, self.service.name, {"spec": dict(spec)})

    def serving(self, seconds: float) -> View:
        """Waits until all replicas are ready."""
        wanted = self.service.replicas
        return self.until(
            f"{wanted} pods are ready",
            lambda view: sum(self.pods.now().values()) >= wanted and bool(view.role("Stable")),
            seconds=seconds,
        )

    def start_load(self, image: str, load: Load) -> None:
        """The load generator, against the Service."""
        self.load.deploy(image, self.url(), MODEL, load)

    def url(self) -> str:
        """The Service's own address: nothing here needs cluster DNS."""
        address = self.access.get(f"/api/v1/namespaces/{self.namespace}/services/{self.service.name}")["spec"]
        return f"http://{address['clusterIP']}:{address['ports'][0]['port']}/v1"

    def attempt_ended(self, before: View, outcome: str, seconds: float) -> Attempt:
        """The next trial that ends after `before`. Raises DidNotHappenError when it ends otherwise than `outcome`."""
        found = self.until(f"a trial ends as {outcome}", lambda v: bool(v.new_attempts(before)), seconds=seconds)
        attempt = found.new_attempts(before)[-1]
        if attempt.outcome != outcome:
            raise DidNotHappenError(
                f"The trial of {knobs(attempt.config)} ended as {attempt.outcome} ({attempt.reason}) instead of "
                f"{outcome}: {attempt.message}"
            )
        return attempt

    def settled(self, stable: str, seconds: float = 240) -> View:
        """Waits until a revision serves alone and nothing moves."""
        wanted = {stable: self.service.replicas}
        return self.until(
            f"revision {stable} serves alone",
            lambda v: v.phase == "Stable" and v.role("Stable") == stable and self.pods.now() == wanted,
            seconds=seconds,
        )

    def spoil(self, change: Mapping[str, Any], outcome: str, seconds: float) -> Trial:
        """A bad change of the user until only the stable pods are left again; then the user takes it back."""
        before = self.view()
        stable = before.role("Stable")
        changed = time.time()
        self.patch({"engine": {"config": dict(change)}})
        try:
            attempt = self.attempt_ended(before, outcome, seconds)
            restored = self._only_left(stable, attempt)
        finally:
            self.patch({"engine": {"config": {knob: self.service.config.get(knob) for knob in change}}})
        trial = Trial(
            attempt=attempt,
            changed_at=changed,
            served_at=self.pods.first_ready(attempt.revision, changed),
            restored_at=restored,
            stable_min_ready=self.pods.least(stable, changed),
        )
        self.settled(stable)
        return trial

    def _only_left(self, stable: str, attempt: Attempt) -> float:
        since = attempt.decided_at or 0.0

        def moment() -> float | None:
            counts = self.pods.counts(since)
            return counts[-1].at if counts and set(counts[-1].ready) == {stable} else None

        self.until("only the stable pods are left", lambda _: moment() is not None, seconds=180)
        return max(moment() or time.time(), since)


def selector(name: str) -> str:
    """All pods that an LLMDeployment owns."""
    return f"{DEPLOYMENT}={name}"
