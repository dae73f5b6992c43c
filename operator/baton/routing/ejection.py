"""Which endpoints are left out for a while because calls of them keep failing. Reads no clock and picks nothing.

An endpoint that failed so often in a row is ejected. Once its time is over it gets one request at a time as a probe:
if one ends well it is as good as any other, if one fails it is ejected for twice as long.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class EjectionPolicy:
    """Failures in a row that eject an endpoint (0: none do), seconds of its first ejection, and of the longest."""

    failures: int = 3
    first_time: float = 5.0
    longest_time: float = 60.0


@dataclass(frozen=True, slots=True)
class _Record:
    """An endpoint that has failed.

    It may be chosen from `closed_until` on, as a probe if it `is_ejected`. `is_needed` says that it was chosen before
    that, because nothing else was left.
    """

    failures: int = 0
    ejections: int = 0
    is_ejected: bool = False
    is_probed: bool = False
    is_needed: bool = False
    closed_until: float = 0.0


@dataclass(slots=True)
class Ejections:
    """The endpoints of one router process that have failed lately, by name. Times are of one monotonic clock."""

    policy: EjectionPolicy = field(default_factory=EjectionPolicy)
    _records: dict[str, _Record] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(record.is_ejected for record in self._records.values())

    def closed(self, now: float) -> frozenset[str]:
        """Return the endpoints to leave out now. Empty, and free, while nothing has failed."""
        if not self._records:
            return frozenset()
        return frozenset(name for name, record in self._records.items() if now < record.closed_until)

    def chosen(self, name: str, now: float) -> None:
        """Take note that an endpoint gets a request: the next probe has to wait for its end, or as long as the first.

        A probe may have left no trace (its client went away), so its end is not waited for for ever.
        """
        record = self._records.get(name)
        if record is None or not record.is_ejected:
            return
        if now < record.closed_until:
            self._records[name] = replace(record, is_needed=True)
        else:
            self._records[name] = replace(record, is_probed=True, closed_until=now + self.policy.first_time)

    def failed(self, name: str, now: float) -> bool:
        """Count a failed call and return whether it ejected the endpoint."""
        record = self._records.get(name, _Record())
        if not self.policy.failures or (record.is_ejected and not record.is_probed):
            return False  # nothing is ever ejected, or this was no probe
        if record.failures + 1 < self.policy.failures and not record.is_ejected:
            self._records[name] = replace(record, failures=record.failures + 1)
            return False
        seconds = min(self.policy.first_time * 2**record.ejections, self.policy.longest_time)
        # The exponent stays small: ejecting any longer is pointless, and a float has an end.
        ejections = record.ejections + (seconds < self.policy.longest_time)
        self._records[name] = _Record(0, ejections, is_ejected=True, closed_until=now + seconds)
        return True

    def answered(self, name: str) -> None:
        """Count a call that ended well: failures are forgotten, and so is an ejection that it can have come after."""
        record = self._records.get(name)
        if record is not None and (record.is_probed or record.is_needed or not record.is_ejected):
            del self._records[name]

    def keep_only(self, names: AbstractSet[str]) -> None:
        """Forget the endpoints that have other names than these."""
        for name in self._records.keys() - names:
            del self._records[name]
