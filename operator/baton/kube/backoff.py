"""How long to wait after a failure. Waits for nothing itself."""

from __future__ import annotations

_JITTER = 0.2  # up to a fifth shorter, so that many clients that failed together don't come back together


def delay_after(failures: int, *, base: float, cap: float, jitter: float) -> float:
    """Return the seconds to wait after this many failures in a row: base, doubled each time, never above cap.

    `jitter` is a random number from 0 up to 1.
    """
    doublings = min(max(failures, 1) - 1, 32)
    return min(cap, base * 2.0**doublings) * (1.0 - _JITTER * jitter)
