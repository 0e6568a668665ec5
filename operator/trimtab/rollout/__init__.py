"""Rolls a configuration out: starts it on a canary, promotes what is judged good, restores what served before.

`step(state, facts, now)` is the whole interface. It is total, and idempotent: the same state, facts and time give the
same state, the same level actions and no second announcement. The shell persists the new state before it performs the
actions, and steps again at each interval and at each change, so a crash at any point is repaired by the next call:
every phase asks for all that should exist, not for differences.

What is decided here, beyond the phases themselves:

- Nothing is decided twice upon facts that were gathered for an earlier phase: a wish, a verdict or a request to roll
  back counts only when time has passed since the phase (for a rollback: the trial) began.
- A user's new wish during a trial supersedes it; during the watch it waits until the watch ends, because the promoted
  revision is not a last known good yet. Going back to what ran before ends the watch at once, by rolling back.
- `suspend` means hands off: a running trial is rolled back and nothing starts; a watch runs to its end, because it can
  only confirm or restore. `paused` holds every phase where it is, and its time does not count against a deadline; what
  is evidence against a canary still aborts it.
- A trial that the surroundings ended (no room, no quota, no image, no decision before the deadline) is tried again with
  a back-off that doubles; one that the configuration itself ended never is.
- A rollback waits for stable capacity until the deadline for readiness. If stable does not come back at all, what still
  serves of the candidate stays until another revision carries everything, and a corrected spec may be tried meanwhile.
- Too few free GPUs hold a trial before it starts. Nothing was tried, so no attempt is counted.
- With no replicas wanted, nothing serves that a canary could protect: the user's configuration is adopted directly.
- Where an HPA owns the replicas of an owned workload it must point at the LLMDeployment's scale subresource; one that
  points at the Deployment of a single revision loses its target at a promotion.
"""

from trimtab.rollout.machine import next_wake, step

__all__ = ["next_wake", "step"]
