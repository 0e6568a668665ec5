"""Who is inside: the requests that this server has accepted and not answered."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

from trimtab_engine.admission.decide import Load, waiting
from trimtab_engine.admission.pace import Pace
from trimtab_engine.asgi.answers import Message, Send
from trimtab_engine.server.control import Control


class Inside:
    """How many are inside, how fast they are completed, and how long the first of those that wait has waited.

    `control` has the limits that are wanted and what the engine did last; `clock` tells seconds and never goes back.
    """

    def __init__(self, control: Control, clock: Callable[[], float]) -> None:
        self._control = control
        self._clock = clock
        self._came: dict[Place, float] = {}  # in the order in which they came
        self._pace = Pace(since=clock())
        self._pace_limits: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self._came)

    def load(self) -> Load:
        """What is there now."""
        self._keep_pace()
        notice = self._control.notice
        load = Load(
            inside=len(self),
            running=notice.running,
            waiting=notice.waiting,
            seconds_per_completion=self._pace.seconds_per_completion(),
        )
        return replace(load, waited_seconds=self._waited(load))

    def come(self) -> Place:
        """Takes one more request in."""
        place = Place(self)
        self._came[place] = self._clock()
        return place

    def left(self, place: Place) -> None:
        """The request at this place is answered."""
        self._keep_pace()
        self._pace = self._pace.completed(full=self._full())
        del self._came[place]

    def _waited(self, load: Load) -> float:
        """How long the first of those that wait has: they are the last that came, unless classes change the order."""
        wanted = self._control.wanted
        behind = waiting(load, wanted.limits)
        if not behind or wanted.limits.max_wait_seconds is None or wanted.classes.ordered:
            return 0.0
        came = next(itertools.islice(self._came.values(), len(self) - behind, None))
        return self._clock() - came

    def _full(self) -> bool:
        return len(self) >= self._control.wanted.limits.max_running_requests

    def _keep_pace(self) -> None:
        """What was measured under other limits says nothing about these."""
        now, wanted = self._clock(), self._control.wanted.limits
        limits = (wanted.max_running_requests, wanted.max_tokens_per_step)
        if limits != self._pace_limits:
            self._pace, self._pace_limits = Pace(since=now), limits
        self._pace = self._pace.at(now, full=self._full())


class Place:
    """The place of one request inside. It is free again before the client sees the end of its answer: one who asks
    again at once finds it so, and the application may still have to tidy up."""

    def __init__(self, inside: Inside) -> None:
        self._inside = inside
        self._taken = True

    def until_the_end_of(self, send: Send) -> Send:
        """Sends on, and leaves with the last part of the answer."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self.leave()
            await send(message)

        return sending

    def leave(self) -> None:
        """Makes the place free; again, it changes nothing."""
        if self._taken:
            self._taken = False
            self._inside.left(self)
