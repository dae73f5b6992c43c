"""What `kubectl apply` makes of a typed engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cluster import Cluster

pytestmark = pytest.mark.controlplane


def test_a_removed_flag_survives_a_second_apply_and_a_null_does_not(
    cluster: Cluster, deepseek: list[dict[str, Any]]
) -> None:
    serving = deepseek[0]
    serving["spec"]["template"]["engine"] |= {"flags": {"seed": None}, "removeFlags": ["trust-remote-code"]}

    cluster.apply(serving)
    cluster.apply(serving)

    engine = cluster.get("modelserving", "dsv4")["spec"]["template"]["engine"]
    assert engine["removeFlags"] == ["trust-remote-code"]
    assert "seed" not in engine["flags"]
    cluster.until(lambda: bool(cluster.get("configmaps", "--selector=modelserving.volcano.sh/name=dsv4")["items"]), "it is launched")
    scripts = [item["data"]["launch.sh"] for item in cluster.get("configmaps")["items"] if "launch.sh" in item["data"]]
    assert not [script for script in scripts if "--trust-remote-code" in script]
