"""What applying a typed engine does, and what `baton plan` says of it before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from click.testing import CliRunner

from baton.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

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
    cluster.until(
        lambda: bool(cluster.get("configmaps", "--selector=modelserving.volcano.sh/name=dsv4")["items"]),
        "it is launched",
    )
    scripts = [item["data"]["launch.sh"] for item in cluster.get("configmaps")["items"] if "launch.sh" in item["data"]]
    assert not [script for script in scripts if "--trust-remote-code" in script]


def test_the_users_templates_are_read_when_they_have_the_label(
    cluster: Cluster, deepseek: list[dict[str, Any]]
) -> None:
    serving = deepseek[0]
    serving["spec"]["template"]["engine"]["templates"] = {"configMap": "mine"}
    cluster.apply(serving)
    cluster.until(
        lambda: cluster.condition("modelserving", "dsv4", "Accepted").get("status") == "False", "it is refused"
    )
    assert "kubectl label configmap -n" in cluster.condition("modelserving", "dsv4", "Accepted")["message"]

    cluster.run("create", "configmap", "mine", "--from-literal=ready.sh.j2=exit 0 # of {{ plan.role }}")
    cluster.run("label", "configmap", "mine", "baton.serving.volcano.sh/templates=true")

    cluster.wait_available("dsv4")
    scripts = [
        item["data"].get("ready.sh") for item in cluster.get("configmaps", "-lbaton.serving.volcano.sh/launch")["items"]
    ]
    assert sorted(scripts) == ["exit 0 # of decode", "exit 0 # of prefill"]


def test_a_plan_is_what_then_happens(cluster: Cluster, deepseek: list[dict[str, Any]], tmp_path: Path) -> None:
    serving = deepseek[0]
    file = tmp_path / "serving.yaml"

    def plan(*options: str) -> Result:
        file.write_text(yaml.safe_dump(serving))
        kubeconfig = f"--kubeconfig={cluster.kubectl.kubeconfig}"
        return CliRunner().invoke(main, ["plan", str(file), kubeconfig, f"--namespace={cluster.namespace}", *options])

    assert "pods: 0 restart, 0 stop, 2 start, 0 stay" in plan().output
    cluster.apply(serving)
    cluster.wait_available("dsv4")
    assert plan().output.splitlines()[1:] == ["  nothing to do", plan().output.splitlines()[-1]]
    before = {name: pod["metadata"]["uid"] for name, pod in cluster.pods(name="dsv4").items()}

    serving["spec"]["template"]["roles"][1]["replicas"] = 2
    serving["spec"]["template"]["roles"][1]["engine"]["maxNumSeqs"] = 7
    serving["spec"]["rolloutStrategy"] = {"type": "RoleRollingUpdate"}
    answer = json.loads(plan("--output=json").output)
    (found,) = answer["servings"]
    cluster.apply(serving)
    cluster.until(lambda: "dsv4-0-decode-1-0" in cluster.pods(name="dsv4"), "the second decode is there")
    cluster.until(
        lambda: cluster.get("modelserving", "dsv4")["status"]["updatedReplicas"] == 1, "the roll-out is complete"
    )
    cluster.wait_available("dsv4")

    after = {name: pod["metadata"]["uid"] for name, pod in cluster.pods(name="dsv4").items()}
    assert {pod["name"] for pod in found["pods"]["start"]} == after.keys() - before.keys()
    assert {pod["name"] for pod in found["pods"]["restart"]} == {
        name for name in before if name in after and after[name] != before[name]
    }
    assert found["pods"]["stop"] == []
    assert answer["capacity"]["shortages"] == []
