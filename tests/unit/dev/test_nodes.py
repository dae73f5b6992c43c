from __future__ import annotations

import json
from ipaddress import IPv4Network
from typing import Any

from baton.dev.addresses import AddressRange
from baton.dev.nodes import make_nodes, make_probe

ADDRESSES = AddressRange(IPv4Network("127.70.0.0/16"))


def nodes(count: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(make_nodes(count, addresses=ADDRESSES, version="v1.34.4"))["items"]
    return items


def test_every_node_has_an_address_of_its_own() -> None:
    addresses = {item["status"]["addresses"][0]["address"] for item in nodes(200)}
    assert len(addresses) == 200


def test_a_node_offers_sixteen_npus() -> None:
    (node,) = nodes(1)
    assert node["status"]["allocatable"]["huawei.com/Ascend910"] == "16"
    assert node["metadata"]["labels"]["accelerator-type"] == "module-a3-16"


def test_no_nodes_are_fine() -> None:
    assert nodes(0) == []


def test_the_probe_is_a_pod_that_asks_for_nothing() -> None:
    (pod,) = json.loads(make_probe())["items"]
    assert pod["kind"] == "Pod"
    assert set(pod["spec"]) == {"containers"}
