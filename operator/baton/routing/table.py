"""Which backend takes a request: all documents of the router compiled into one table that is asked once a request.

Knows nothing of endpoints and never changes: new documents make a new table.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate

from baton.api.route import ModelMatch, StringMatch
from baton.api.router_config import BackendConfig, RouteConfig, RouterConfig, RuleConfig
from baton.routing.types import Match, RequestFacts

_LAST = datetime.max.replace(tzinfo=UTC)
PATTERN_ERRORS = (re.error, OverflowError, RecursionError)
"""What compiling a faulty regular expression can raise."""
_ROLLS = 2**53
"""How many different numbers from 0 up to 1 a float tells apart."""

_Condition = Callable[[RequestFacts], bool]


@dataclass(frozen=True, slots=True)
class _Rule:
    conditions: tuple[_Condition, ...]
    shares: tuple[int, ...]
    """Weights added up from the first target to each."""
    rewritten: tuple[Match, ...]
    unchanged: tuple[Match, ...]


_Candidates = tuple[tuple[_Rule, ...], ...]
_Routes = Mapping[str, _Candidates]
"""By a name that requests use: the rules of each candidate route."""


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """Routes by model name and by adapter name, and those for any name. Make one with `build`."""

    _by_model: _Routes
    _by_adapter: _Routes
    _for_any: _Candidates

    @classmethod
    def build(cls, configs: Iterable[RouterConfig]) -> RoutingTable:
        """Compile documents. Their order does not matter, and a backend name means the one of its own document.

        Takes every valid document: a rule matches nothing if all its weights are 0 or a regular expression is faulty.
        """
        by_model: dict[str, list[_Candidate]] = {}
        by_adapter: dict[str, list[_Candidate]] = {}
        for_any: list[_Candidate] = []
        for config in configs:
            backends = {backend.name: backend for backend in config.backends}
            for route in config.routes:
                candidate = _Candidate(_age_of(route), route, config, _rules_of(route, backends))
                if route.model_name:
                    by_model.setdefault(route.model_name, []).append(candidate)
                for adapter in dict.fromkeys(route.lora_adapters):
                    by_adapter.setdefault(adapter, []).append(candidate)
                if route.any_model:
                    for_any.append(candidate)
        return cls(_by_model=_ordered(by_model), _by_adapter=_ordered(by_adapter), _for_any=_rules_in_order(for_any))

    def models(self) -> list[str]:
        """Return the names that requests may use, of models and of LoRA adapters, sorted."""
        return sorted({*self._by_model, *self._by_adapter})

    def match(self, facts: RequestFacts, roll: float) -> Match | None:
        """Return the backend for a request. `roll`, from 0 up to but not including 1, selects among weighted targets.

        Adapter names count only where no route has the model name; the name then goes upstream as it is. Routes for any
        model come last.
        """
        routes = self._by_model.get(facts.model)
        is_adapter = routes is None and facts.model in self._by_adapter
        if routes is None:
            routes = self._by_adapter.get(facts.model, self._for_any)
        for rules in routes:
            for rule in rules:
                if all(condition(facts) for condition in rule.conditions):
                    # In whole numbers: weights may be larger than a float can count.
                    target = bisect_right(rule.shares, int(roll * _ROLLS) * rule.shares[-1] // _ROLLS)
                    return (rule.unchanged if is_adapter else rule.rewritten)[target]
        return None


@dataclass(frozen=True, slots=True)
class _Candidate:
    age: tuple[datetime, str]
    route: RouteConfig
    config: RouterConfig
    rules: tuple[_Rule, ...]


def _age_of(route: RouteConfig) -> tuple[datetime, str]:
    """Return what candidates are ordered by; a route that does not say when it was made comes last."""
    try:
        created = datetime.fromisoformat(route.created)
    except ValueError:
        created = _LAST
    return created if created.tzinfo else created.replace(tzinfo=UTC), route.name


def _ordered(candidates: Mapping[str, list[_Candidate]]) -> _Routes:
    return {name: _rules_in_order(found) for name, found in candidates.items()}


def _rules_in_order(candidates: list[_Candidate]) -> _Candidates:
    return tuple(candidate.rules for candidate in _sorted(candidates))


def _sorted(candidates: list[_Candidate]) -> list[_Candidate]:
    if len({candidate.age for candidate in candidates}) == len(candidates):
        return sorted(candidates, key=lambda candidate: candidate.age)
    # Two routes of one name and age: their contents decide, so that all routers agree whatever they read first.
    return sorted(
        candidates,
        key=lambda candidate: (candidate.age, candidate.route.model_dump_json(), candidate.config.model_dump_json()),
    )


def _rules_of(route: RouteConfig, backends: Mapping[str, BackendConfig]) -> tuple[_Rule, ...]:
    compiled = (_rule_of(rule, f"rules[{number}]", route, backends) for number, rule in enumerate(route.rules))
    return tuple(rule for rule in compiled if rule is not None)


def _rule_of(rule: RuleConfig, place: str, route: RouteConfig, backends: Mapping[str, BackendConfig]) -> _Rule | None:
    targets = [target for target in rule.targets if target.weight > 0]
    if not targets:
        return None
    try:
        conditions = _conditions_of(rule.match or ModelMatch())
    except PATTERN_ERRORS:
        return None
    found = [backends[target.backend] for target in targets]
    name = rule.name or place
    return _Rule(
        conditions=conditions,
        shares=tuple(accumulate(target.weight for target in targets)),
        rewritten=tuple(Match(route.name, name, backend, backend.model) for backend in found),
        unchanged=tuple(Match(route.name, name, backend, None) for backend in found),
    )


def _conditions_of(match: ModelMatch) -> tuple[_Condition, ...]:
    conditions: list[_Condition] = []
    if match.body is not None and match.body.model is not None:
        model = match.body.model
        conditions.append(lambda facts: facts.model == model)
    for name, expected in match.headers.items():
        conditions.append(_header_condition(name.lower(), _string_test(expected)))
    if match.uri is not None:
        test = _string_test(match.uri)
        conditions.append(lambda facts: test(facts.path))
    return tuple(conditions)


def _header_condition(name: str, test: Callable[[str], bool]) -> _Condition:
    return lambda facts: test(facts.headers.get(name, ""))


def _string_test(expected: StringMatch) -> Callable[[str], bool]:
    if expected.exact is not None:
        return expected.exact.__eq__
    if expected.prefix is not None:
        prefix = expected.prefix
        return lambda text: text.startswith(prefix)
    if expected.regex is not None:
        search = re.compile(expected.regex).search
        return lambda text: search(text) is not None
    return lambda _: True
