"""Durations, percentages and amounts of resources as users write them."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|ms|s|m|h)")
_PERCENT = re.compile(r"^([0-9]+)%$")
_AMOUNT = re.compile(r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:([eE][+-]?[0-9]{1,3})|([numkMGTPE]|[KMGTPE]i)?)")
_SCALES = (
    {"": Decimal(1)}
    | {unit: Decimal(1000) ** power for power, unit in enumerate("num", start=-3)}
    | {unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", start=1)}
    | {f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)}
)


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


def amount(quantity: float | str) -> Decimal:
    """Return the number that a Kubernetes quantity such as `"500m"`, `"64Gi"` or `8` stands for.

    Raises:
        ValueError: the value is no quantity.

    """
    match = _AMOUNT.fullmatch(str(quantity))
    if match is None:
        raise ValueError(f'{quantity!r} is no quantity; write for example 8, "500m" or "64Gi"')
    number, exponent, unit = match.groups()
    return Decimal(number + (exponent or "")) * _SCALES[unit or ""]


def quantity_of(number: Decimal) -> str:
    """Return an amount as a quantity: whole, or in thousandths rounded up."""
    if number == number.to_integral_value():
        return str(int(number))
    return f"{int((number * 1000).to_integral_value(rounding=ROUND_CEILING))}m"
