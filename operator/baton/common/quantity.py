"""Durations and percentages as users write them."""

from __future__ import annotations

import re

_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|ms|s|m|h)")
_PERCENT = re.compile(r"^([0-9]+)%$")


def seconds(duration: str) -> float:
    """Return the seconds of a Go duration such as `"1m30s"` or `"150ms"`.

    Raises:
        ValueError: the text is no duration.

    """
    parts = _PART.findall(duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise ValueError(f"{duration!r} is no duration; write for example 300s, 150ms or 1m30s")
    return float(sum(float(number) * _SECONDS[unit] for number, unit in parts))


def resolve(amount: int | str | None, *, total: int, round_up: bool = False) -> int:
    """Return a count from a number or a percentage of `total`; None is 0.

    Raises:
        ValueError: the text is neither.

    """
    if amount is None:
        return 0
    if isinstance(amount, int):
        return amount
    if match := _PERCENT.match(amount):
        scaled = int(match.group(1)) * total
        return -(-scaled // 100) if round_up else scaled // 100
    raise ValueError(f'{amount!r} is neither a number nor a percentage such as "25%"')
