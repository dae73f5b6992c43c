"""Makes a cluster without accelerators count some, so that the scheduler places pods that ask for them."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.dev.kubectl import Kubectl

RESOURCE: Final = "huawei.com/Ascend910"
COUNT: Final = 64
"""Two prefills and two decodes of 16 devices each."""


@contextmanager
def offering_devices(kubectl: Kubectl) -> Iterator[None]:
    """Let a node offer devices when none does, and take them back afterwards."""
    nodes = json.loads(kubectl.run("get", "nodes", "--output=json"))["items"]
    if any(int(node["status"]["allocatable"].get(RESOURCE, 0)) for node in nodes):
        yield
        return
    name = next(node["metadata"]["name"] for node in nodes if not node["spec"].get("taints"))
    path = "/status/capacity/" + RESOURCE.replace("/", "~1")
    _patch(kubectl, name, {"op": "add", "path": path, "value": str(COUNT)})
    yield
    _patch(kubectl, name, {"op": "remove", "path": path})


def _patch(kubectl: Kubectl, node: str, operation: dict[str, Any]) -> None:
    kubectl.run("patch", "node", node, "--subresource=status", "--type=json", f"--patch={json.dumps([operation])}")
