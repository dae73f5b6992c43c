"""What a rule is: an id, a check that finds faults, and the words that say what is wrong and how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from baton.api.endpoints import Phase
from baton.api.kv_transfer import KVConnector
from baton.api.problems import Problem, Severity
from baton.api.serving import ModelServing
from baton.rendering.resolve import TypedRole


@dataclass(frozen=True, slots=True)
class Group:
    """What rules look at: a ModelServing and the plans of its typed roles."""

    serving: ModelServing
    typed: tuple[TypedRole, ...]

    def of(self, phase: Phase) -> tuple[TypedRole, ...]:
        """Return the roles of a phase."""
        return tuple(role for role in self.typed if role.plan.phase is phase)

    def pairs(self, connector: KVConnector | None = None) -> Iterator[tuple[TypedRole, TypedRole]]:
        """Yield every prefill role with every decode role that it hands over to, perhaps only by one connector."""
        for prefill in self.of(Phase.PREFILL):
            if connector is None or (prefill.plan.kv is not None and prefill.plan.kv.connector is connector):
                yield from ((prefill, decode) for decode in self.of(Phase.DECODE))


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: the field, and what the rule's words leave open."""

    path: str
    facts: dict[str, object]


def found(path: str, **facts: object) -> Finding:
    """Return a finding; None is shown as unset."""
    return Finding(path, {name: "unset" if fact is None else fact for name, fact in facts.items()})


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the table; `message` and `cure` are format strings over the facts of a finding."""

    id: str
    find: Callable[[Group], Iterator[Finding]]
    message: str
    cure: str
    severity: Severity = Severity.ERROR

    def problems(self, group: Group) -> Iterator[Problem]:
        """Yield what is wrong, for people."""
        for finding in self.find(group):
            text = f"{self.message}; {self.cure}".format(**finding.facts)
            yield Problem(path=finding.path, message=text, severity=self.severity)
