"""Reads the router's document and finds what its schema cannot: says for each fault the field and the cure.

Opens no files; where a document comes from, and what happens to a bad one, is the caller's business.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime

import yaml
from pydantic import ValidationError

from baton.api.meta import problems_of
from baton.api.route import StringMatch
from baton.api.router_config import BackendConfig, RouteConfig, RouterConfig, RuleConfig
from baton.routing.endpoints import LAST_PORT, static_endpoints_of
from baton.routing.table import PATTERN_ERRORS

_LABEL_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_LABEL_KEY = re.compile(rf"(?:[a-z0-9](?:[a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_LABEL_NAME}")
_LABEL_VALUE = re.compile(rf"(?:{_LABEL_NAME})?")

# PyYAML lets errors of the conversions it calls escape, for example KeyError for `!!bool x`.
_YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


class DocumentError(Exception):
    """A document cannot be used. `faults` are lines of field, reason and cure."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


def read_document(text: str, *, strict: bool = False) -> RouterConfig:
    """Read a document from YAML or JSON; `strict` also refuses fields that it does not have.

    Raises:
        DocumentError: it is no YAML, misses the schema, or contradicts itself.

    """
    try:
        content = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 # both are safe
    except _YAML_ERRORS as error:
        raise DocumentError([f"document: no valid YAML: {' '.join(str(error).split())}"]) from error
    try:
        config = RouterConfig.model_validate(
            content, extra="forbid" if strict else "ignore", by_alias=True, by_name=False
        )
    except ValidationError as error:
        raise DocumentError(problems_of(error)) from error
    if faults := list(_faults_of(config)):
        raise DocumentError(faults)
    return config


def faults_of_file(config: RouterConfig) -> list[str]:
    """Say what a document may not do in a file: select pods, which nobody watches then."""
    return [
        f"backends[{number}].selector: a router with a configuration file watches no pods; list endpoints instead"
        for number, backend in enumerate(config.backends)
        if backend.selector is not None
    ]


def faults_of_config_map(config: RouterConfig, *, namespace: str) -> list[str]:
    """Say what a document may not do in a ConfigMap: reach beyond the pods of the ConfigMap's own namespace.

    Otherwise whoever may write ConfigMaps in one namespace could send requests to any address of the cluster.
    """
    faults = [
        f"routes[{number}].anyModel: only a configuration file may take every model; name the model instead"
        for number, route in enumerate(config.routes)
        if route.any_model
    ]
    for number, backend in enumerate(config.backends):
        path = f"backends[{number}]"
        if backend.endpoints:
            faults.append(f"{path}.endpoints: only a configuration file may name addresses; set selector instead")
        if backend.selector is None:
            faults.append(f"{path}.selector: is missing; name the namespace and the labels of the pods")
            continue
        if backend.selector.namespace != namespace:
            faults.append(f"{path}.selector.namespace: is not the ConfigMap's own; write {namespace}")
        faults += _faults_of_labels(f"{path}.selector.matchLabels", backend.selector.match_labels)
    return faults


def _faults_of(config: RouterConfig) -> Iterator[str]:
    names = Counter(backend.name for backend in config.backends)
    for number, backend in enumerate(config.backends):
        if names[backend.name] > 1:
            yield f"backends[{number}].name: {backend.name!r} is used more than once; give each backend its own name"
        yield from _faults_of_endpoints(f"backends[{number}].endpoints", backend)
    for number, route in enumerate(config.routes):
        yield from _faults_of_route(f"routes[{number}]", route)


def _faults_of_endpoints(path: str, backend: BackendConfig) -> Iterator[str]:
    too_high = [
        f"{path}[{number}].ranks: {static.ranks} ranks from port {static.port} on end above port {LAST_PORT}; "
        "lower one of them"
        for number, static in enumerate(backend.endpoints)
        if static.port + static.ranks - 1 > LAST_PORT
    ]
    if too_high:
        yield from too_high
        return
    for name, times in Counter(endpoint.name for endpoint in static_endpoints_of(backend)).items():
        if times > 1:
            yield f"{path}: {name} is listed {times} times; mind that ranks take consecutive ports"


def _faults_of_route(path: str, route: RouteConfig) -> Iterator[str]:
    if not route.model_name and not route.lora_adapters and not route.any_model:
        yield f"{path}.modelName: is missing, so no request comes here; set it, loraAdapters or anyModel"
    if route.created and not _is_time(route.created):
        yield f"{path}.created: {route.created!r} is no time; write it as 2026-01-31T12:00:00Z or leave it out"
    for number, rule in enumerate(route.rules):
        yield from _faults_of_rule(f"{path}.rules[{number}]", rule)


def _faults_of_rule(path: str, rule: RuleConfig) -> Iterator[str]:
    if not any(target.weight for target in rule.targets):
        yield f"{path}.targets: all weights are 0, so no request comes through; raise one"
    if rule.match is None:
        return
    tests = {f"{path}.match.headers.{name}": test for name, test in rule.match.headers.items()}
    if rule.match.uri is not None:
        tests[f"{path}.match.uri"] = rule.match.uri
    for place, test in tests.items():
        yield from _faults_of_test(place, test)


def _faults_of_test(path: str, test: StringMatch) -> Iterator[str]:
    if test.regex is None:
        return
    try:
        re.compile(test.regex)
    except PATTERN_ERRORS as error:
        yield f"{path}.regex: {test.regex!r} is no regular expression: {error}"


def _faults_of_labels(path: str, wanted: Mapping[str, str]) -> Iterator[str]:
    for key, value in wanted.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            yield f"{path}: {key}={value} cannot be the label of a pod; correct it"


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
