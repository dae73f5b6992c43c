"""Decides who of several processes leads, by one Lease. Reads no clock and sends nothing; baton.kube.leadership does.

Clocks of different machines are never compared: a rival counts from when it itself saw the Lease change last, a leader
from when it began to send the renewal, which is earlier. So the leader's time is over first, whatever the clocks show
and however long messages take, as long as no clock runs more than a fifth faster than another.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf

DURATION = 12.0
"""Seconds that a Lease must have gone unchanged before others may take it."""
DEADLINE = 8.0
"""Seconds from the beginning of a renewal for which its sender leads: by a third shorter, for clocks that run apart."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What the API server holds. Each write makes another version; the versions of equal Leases are equal."""

    version: str
    holder: str = ""
    """Identity of who may lead; empty when it was released or never held."""
    duration: float = DURATION
    """Seconds that the holder asks others to wait."""
    transitions: int = 0
    """How often the holder has changed."""
    acquired: str | None = None
    """When the holder took it, for people."""


ABSENT = Lease(version="")
"""Stands for a Lease that does not exist."""

NOBODY = "nobody"
"""Holder of a Lease that was created where there was none. Somebody may have led by one that was deleted, and not have
noticed yet: so to create it is not to lead, and it is taken like that of a leader that is gone.
"""


@dataclass(frozen=True, slots=True)
class Candidacy:
    """What one process knows; times are seconds of its own clock, which must never be set back."""

    identity: str
    duration: float = DURATION
    deadline: float = DEADLINE
    lease: Lease | None = None
    """As last seen; None while it has to be looked at before the next write."""
    leads_until: float = -inf
    _known: Lease | None = field(default=None, repr=False)
    _changed_at: float = -inf

    def is_leading(self, now: float) -> bool:
        """Tell whether this process may act now."""
        return now < self.leads_until

    def may_claim(self, now: float) -> bool:
        """Tell whether to write `bid` into the Lease as it was seen: to create, to take, or to renew it."""
        lease = self.lease
        if lease is None:
            return False
        if lease.holder in {self.identity, ""}:
            return True
        return now - self._changed_at > max(self.duration, lease.duration)

    @property
    def bid(self) -> str:
        """Return whom to name as the holder."""
        return NOBODY if self.lease == ABSENT else self.identity

    def saw(self, lease: Lease, *, at: float) -> Candidacy:
        """Return what is known after the API server has shown this Lease, by an answer that came in `at` this time."""
        leads_until = self.leads_until if lease.holder == self.identity else -inf
        changed_at = self._changed_at if lease == self._known else at
        return replace(self, lease=lease, leads_until=leads_until, _known=lease, _changed_at=changed_at)

    def claimed(self, lease: Lease, *, sent: float) -> Candidacy:
        """Return what is known after our claim, which we began to send then, became this Lease."""
        if lease.holder != self.identity:
            return self.doubting()
        return replace(self, lease=lease, leads_until=sent + self.deadline)

    def doubting(self) -> Candidacy:
        """Return what is known after a claim without an answer, or one that was refused: look again first."""
        return replace(self, lease=None)

    def resigned(self) -> Candidacy:
        """Return what is known once this process has ceased to act of its own accord."""
        return replace(self, leads_until=-inf)
