"""Engines as people name them, `http://10.0.0.1:8000`, and the router's document for a list of them.

Asks no engine anything: router.standalone does.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from pydantic import ValidationError

from baton.api.endpoints import Phase
from baton.api.meta import problems_of
from baton.api.router_config import BackendConfig, RouteConfig, RouterConfig, RuleConfig, StaticEndpoints, TargetConfig
from baton.api.traffic import KVConnectorType, Protocol
from baton.routing.endpoints import LAST_PORT

NAME = "engines"
"""Of the one backend and the one route."""

_ENGINE = re.compile(
    r"(?:(?P<protocol>https?)://)?"
    r"(?:\[(?P<ipv6>[0-9a-fA-F:.]+)\]|(?P<host>[^\s\[\]:/@?#]+))"
    r"(?::(?P<port>\d{1,5})(?:-(?P<last>\d{1,5}))?)?/?"
)
_SHAPE = "write it as http://HOST:PORT, HOST:PORT, or HOST:FIRST-LAST for the DP ranks of one engine"
_DEFAULT_PORTS = {"http": 80, "https": 443}


def read_engine(text: str, phase: Phase) -> StaticEndpoints:
    """Read `[http[s]://]HOST:PORT[-LAST]`, an IPv6 address in brackets.

    Raises:
        ValueError: it is no such text; the message names it, the reason and the cure.

    """
    found = _ENGINE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} names no engine; {_SHAPE}")
    protocol = found["protocol"]
    if found["port"] is None and protocol is None:
        raise ValueError(f"{text!r} has no port; {_SHAPE}")
    port = int(found["port"] or _DEFAULT_PORTS[protocol])
    last = int(found["last"] or port)
    if not port <= last <= LAST_PORT:
        raise ValueError(f"{text!r} names the ports {port} to {last}; ports go up to {LAST_PORT}, the first one first")
    try:
        return StaticEndpoints(
            address=found["ipv6"] or found["host"],
            port=port,
            ranks=last - port + 1,
            phase=phase,
            protocol=Protocol(protocol or "http"),
        )
    except ValidationError as error:
        raise ValueError(f"{text!r}: {'; '.join(problems_of(error))}") from None


def name_of(engine: StaticEndpoints) -> str:
    """Return what people call an engine: `HOST:PORT` or `HOST:FIRST-LAST`."""
    host = f"[{engine.address}]" if ":" in engine.address else engine.address
    return f"{host}:{engine.port}" + (f"-{engine.port + engine.ranks - 1}" if engine.ranks > 1 else "")


def document_of(
    engines: Sequence[StaticEndpoints],
    *,
    connector: KVConnectorType,
    models: Sequence[str],
    discovered: Collection[str] = (),
) -> RouterConfig:
    """Return the document that routes to all these engines: the given models, or any when none is given.

    `discovered` are names that the engines say they serve; they are listed to clients when no model is given.
    """
    route = RouteConfig(
        name=NAME,
        model_name=models[0] if models else None,
        lora_adapters=list(models[1:] if models else sorted(discovered)),
        any_model=not models,
        rules=[RuleConfig(targets=[TargetConfig(backend=NAME)])],
    )
    return RouterConfig(
        routes=[route], backends=[BackendConfig(name=NAME, connector=connector, endpoints=list(engines))]
    )
