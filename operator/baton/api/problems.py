"""What is wrong with an object: the field, the reason and the cure, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """Whether an object is refused or only remarked upon."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of an object.

    `path` is the field as users write it (`spec.template.roles[0].engine.parallel.tensor`); `message` says
    what is wrong and how to mend it.
    """

    path: str
    message: str
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        """Return the line people read."""
        return f"{self.path}: {self.message}"
