"""The simulated nodes of the local control plane, and the pod that proves that pods run on them.

It makes documents. KWOK keeps the nodes Ready and plays their pods.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baton.dev.addresses import AddressRange

# An Atlas 800T A3 server: 16 devices, 4 Kunpeng CPUs of 48 cores.
CAPACITY = {
    "cpu": "192",
    "memory": "1800Gi",
    "ephemeral-storage": "4Ti",
    "pods": "110",
    # One node offers one of the two in reality: MindCluster's device plugin the first, Huawei Cloud's the second.
    "huawei.com/Ascend910": "16",
    "huawei.com/ascend-1980": "16",
}
PROBE = "baton-dev-probe"


def make_nodes(count: int, *, addresses: AddressRange, version: str) -> str:
    """Return `count` nodes, named node-0 and so on, as one JSON List. `version` is what their kubelets claim to be."""
    return _list([_node(number, addresses, version) for number in range(count)])


def make_probe() -> str:
    """Return a pod that runs as soon as everything that a pod needs works."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": PROBE, "namespace": "kube-system"},
        "spec": {"containers": [{"name": "probe", "image": "probe"}]},
    }
    return _list([pod])


def _node(number: int, addresses: AddressRange, version: str) -> dict[str, Any]:
    name = f"node-{number}"
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/arch": "arm64",
                "kubernetes.io/os": "linux",
                "accelerator-type": "module-a3-16",
            },
        },
        "status": {
            # An address for each node: pods with host network have their node's, and the simulated engine tells
            # pods apart by address.
            "addresses": [
                {"type": "InternalIP", "address": str(addresses.node(number))},
                {"type": "Hostname", "address": name},
            ],
            "capacity": CAPACITY,
            "allocatable": CAPACITY,
            "nodeInfo": {
                "architecture": "arm64",
                "operatingSystem": "linux",
                "kubeletVersion": version,
                "osImage": "simulated by KWOK",
                "containerRuntimeVersion": "none://",
                **dict.fromkeys(("bootID", "kernelVersion", "kubeProxyVersion", "machineID", "systemUUID"), ""),
            },
        },
    }


def _list(items: list[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
