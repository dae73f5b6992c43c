"""Pods that are to go, and still serve: they are marked, routers choose them no more, and they go once they are idle.

A ServingGroup or a role replica drains as a whole: a decode pod may still have to pull what its prefill pod holds. What
failed is not waited for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime

from baton.api import labels
from baton.planning.decision import Decision
from baton.planning.model import Action, ChildKind, Observed, PodView, Update
from baton.planning.target import Target

_TIMEOUT = 300
"""Seconds by default, where routers tell what is in flight."""


def drain(target: Target, observed: Observed, decision: Decision) -> None:
    """Put off the deletions that have to wait."""
    if not observed.is_routed:
        return
    for unit in decision.retreats:
        pods = [pod for pod in unit if not pod.deleting]
        left = _seconds_left(target, observed, pods)
        if left > 0:
            decision.draining.update((pod.uid, pod) for pod in pods)
            decision.waits.append(left)


def marks(pods: Iterable[PodView], decision: Decision, *, now: datetime) -> Iterator[Action]:
    """Yield the writes that mark the pods which begin to drain, and those that take back marks of ours."""
    for pod in pods:
        if pod.uid in decision.draining:
            if pod.draining_since is None:
                yield _mark(pod, now.isoformat(), "it drains before it goes")
        elif pod.draining_since is not None and decision.spares(pod):
            yield _mark(pod, None, "it stays after all")


def _seconds_left(target: Target, observed: Observed, pods: Collection[PodView]) -> float:
    """Return how long these pods may still wait, together."""
    if not any(pod.ready or pod.draining_since for pod in pods):
        return 0.0
    loads = [observed.in_flight[pod.uid] for pod in pods if pod.uid in observed.in_flight]
    timeout = target.serving.spec.drain_timeout_seconds
    if timeout is None:
        timeout = _TIMEOUT if loads else 0
    since = [pod.draining_since for pod in pods if pod.draining_since is not None]
    if len(since) == len(pods) and loads and not any(loads):
        return 0.0
    elapsed = (observed.now - min(since)).total_seconds() if since else 0.0
    return min(timeout, timeout - elapsed)


def _mark(pod: PodView, value: str | None, reason: str) -> Update:
    return Update(ChildKind.POD, pod.name, pod.uid, {"metadata": {"annotations": {labels.DRAINING: value}}}, reason)
