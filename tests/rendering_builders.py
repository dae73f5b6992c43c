"""ModelServings with typed engines for tests: small ones, changed where a test says so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from baton.api.serving import ModelServing
from baton.rendering.merge import merge_objects
from baton.rendering.resolve import resolve
from baton.rendering.rules import Group, Rule

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "deepseek-v4-flash-pd-a3" / "modelserving.yaml"
EXAMPLES = tuple(
    path.parent.name for path in sorted(ROOT.glob("examples/*/modelserving.yaml")) if "engine:" in path.read_text()
)
"""Directories of the examples that have a typed engine."""

SHARED: dict[str, Any] = {"image": "engine:1", "model": {"path": "/models/m"}, "network": {"interface": "eth0"}}


def example(name: str = "deepseek-v4-flash-pd-a3") -> ModelServing:
    """Return the ModelServing of an example, by default DeepSeek-V4-Flash on A3 with prefill and decode apart."""
    text = (ROOT / "examples" / name / "modelserving.yaml").read_text()
    return ModelServing.read(yaml.safe_load(text), strict=True)


def serving(*roles: dict[str, Any], engine: dict[str, Any] | None = None, replicas: int = 1) -> ModelServing:
    """Return a ModelServing of these roles; `engine` is merged over a shared engine that needs nothing more."""
    return read({"engine": merge_objects(SHARED, engine or {}), "roles": list(roles)}, replicas=replicas)


def read(template: dict[str, Any], *, replicas: int = 1) -> ModelServing:
    """Return a ModelServing with this spec.template."""
    return ModelServing.read(
        {
            "apiVersion": "workload.serving.volcano.sh/v1alpha1",
            "kind": "ModelServing",
            "metadata": {"name": "m", "namespace": "team"},
            "spec": {"replicas": replicas, "template": template},
        }
    )


def raw(name: str = "raw") -> dict[str, Any]:
    """Return a role without a typed engine."""
    return {"name": name, "workerReplicas": 0, "entryTemplate": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}


def role(name: str = "server", *, replicas: int = 1, **engine: Any) -> dict[str, Any]:
    """Return a role with fields of its engine, such as `parallel={"data": 2}`."""
    return {"name": name, "replicas": replicas, "engine": engine}


def pair(prefill: dict[str, Any] | None = None, decode: dict[str, Any] | None = None, **engine: Any) -> ModelServing:
    """Return a prefill role with DP2 TP2 and a decode role with DP4 TP1, their engines changed as given."""
    return serving(
        role("prefill", **merge_objects({"parallel": {"data": 2, "tensor": 2}}, prefill or {})),
        role("decode", **merge_objects({"parallel": {"data": 4, "tensor": 1}}, decode or {})),
        engine=engine,
    )


def problems(launched: ModelServing, rules: Iterable[Rule]) -> list[str]:
    """Return what some rules say of a ModelServing, as people read it."""
    group = Group(launched, resolve(launched))
    return [f"{problem.severity}: {problem}" for rule in rules for problem in rule.problems(group)]
