"""The pods of the example and what runs in them. Judges nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chart.rendering import ROOT
from e2e.load import MODEL

if TYPE_CHECKING:
    from baton.dev.kubectl import Kubectl
    from namespace import Namespace

EXAMPLE: Final = ROOT / "examples" / "deepseek-v4-flash-pd-a3"
SIMULATED: Final = ROOT / "examples" / "simulated-engine.patch.yaml"
ROLES: Final = {"prefill": 4, "decode": 16}
"""Processes of a pod of each role, in the order of the example."""
API_PORT: Final = 7100
_PROCESSES: Final = Path(__file__).with_name("processes.py").read_text()
_STATES: Final = """
import json, sys, urllib.request
read = lambda port: json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/sim/state", timeout=10))["engines"]
print(json.dumps([engine for port in range(int(sys.argv[1]), int(sys.argv[2])) for engine in read(port)]))
"""


@dataclass(frozen=True)
class Inside:
    """What runs in a container; `user` and `capabilities` are those of its first process."""

    user: int
    capabilities: int
    commands: list[list[str]]


def simulated(kubectl: Kubectl, *, engine: str) -> str:
    """Return the example's ModelServing with the simulated engine of the image `engine`, as YAML."""
    files = (f"--filename={EXAMPLE / 'modelserving.yaml'}", f"--patch-file={SIMULATED}")
    patched = kubectl.run("patch", "--local", *files, "--type=merge", "--output=yaml")
    image = json.dumps({"spec": {"template": {"engine": {"image": engine}}}})
    return kubectl.run(
        "patch", "--local", "--filename=-", f"--patch={image}", "--type=merge", "--output=yaml", standard_input=patched
    )


def scale(models: Namespace, role: str, replicas: int) -> None:
    path = f"/spec/template/roles/{list(ROLES).index(role)}/replicas"
    operation = [{"op": "replace", "path": path, "value": replicas}]
    models.run("patch", "modelserving", MODEL, "--type=json", f"--patch={json.dumps(operation)}")


def look_inside(namespace: Namespace, pod: str) -> Inside:
    return Inside(**json.loads(namespace.run("exec", pod, "--", "python", "-c", _PROCESSES)))


def ranks(inside: Inside) -> dict[int, list[str]]:
    """Return the command lines of the engine's processes by their DP rank."""
    lines = [line[line.index("serve") - 1 :] for line in inside.commands if "serve" in line]
    return {int(line[line.index("--data-parallel-rank") + 1]): line for line in lines}


def states(models: Namespace, pod: str) -> list[dict[str, Any]]:
    """Return what each rank of a pod says of its requests and its KV cache."""
    role = pod.split("-")[2]
    ports = (str(API_PORT), str(API_PORT + ROLES[role]))
    engines: list[dict[str, Any]] = json.loads(models.run("exec", pod, "--", "python", "-c", _STATES, *ports))
    return engines
