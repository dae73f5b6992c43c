"""What the pods that are not ready wait for, in few words however many they are."""

from __future__ import annotations

from collections.abc import Iterable

from baton.planning.model import PodView

_SHOWN = 4
"""Different problems told; pods of a ServingGroup mostly wait for the same thing."""


def told(pods: Iterable[PodView]) -> str:
    """Return the most frequent problems, each with the first pod that has it and how many others do; "" for none."""
    found: dict[str, list[str]] = {}
    for pod in pods:
        if pod.problem and not pod.deleting:
            found.setdefault(pod.problem, []).append(pod.name)
    ordered = sorted(found.items(), key=lambda item: -len(item[1]))
    lines = [f"{names[0]}{_others(names)}: {problem}" for problem, names in ordered[:_SHOWN]]
    rest = sum(len(names) for _, names in ordered[_SHOWN:])
    return "; ".join(lines + ([f"and {rest} pods with other problems"] if rest else []))


def _others(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
