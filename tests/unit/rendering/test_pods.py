from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from baton.api import labels
from baton.api.endpoints import Phase, PodEndpoints
from baton.api.serving import ModelServing
from baton.rendering.merge import merge_objects
from baton.rendering.pods import raw_role, transfer_hash
from baton.rendering.resolve import resolve
from rendering_builders import EXAMPLES, ROOT, example, pair, role, serving

if TYPE_CHECKING:
    from baton.api.serving import PodTemplate, Role


def _raw(launched: ModelServing, index: int = 0) -> Role:
    typed = resolve(launched)[index]
    return raw_role(typed.role, typed.plan, config_map="files")


def _entry(launched: ModelServing, index: int = 0) -> PodTemplate:
    template = _raw(launched, index).entry_template
    assert template is not None
    return template


def _container(launched: ModelServing) -> dict[str, Any]:
    container: dict[str, Any] = _entry(launched).spec["containers"][0]
    return container


def test_a_replica_of_one_node_has_no_workers() -> None:
    raw = _raw(example())

    assert (raw.engine, raw.worker_replicas, raw.worker_template) == (None, 0, None)


def test_a_replica_of_several_nodes_has_equal_workers() -> None:
    raw = _raw(serving(role(parallel={"data": 64})))

    assert raw.worker_replicas == 3
    assert raw.worker_template == raw.entry_template


@pytest.mark.parametrize("parallel", [{"data": 16, "dataMode": "Internal"}, {"data": 1}], ids=["internal", "spanning"])
def test_headless_workers_serve_nothing(parallel: dict[str, Any]) -> None:
    raw = _raw(pair(prefill={"parallel": {"tensor": 32 // parallel["data"]} | parallel}, network={"hostNetwork": True}))
    assert raw.entry_template is not None
    assert raw.worker_template is not None

    announced = [
        PodEndpoints.model_validate_json(template.metadata.annotations[labels.ENDPOINTS])
        for template in (raw.entry_template, raw.worker_template)
    ]
    assert [endpoints.ranks for endpoints in announced] == [1, 0]
    assert raw.entry_template.metadata.labels == raw.worker_template.metadata.labels
    (container,) = raw.worker_template.spec["containers"]
    assert [port["containerPort"] for port in container["ports"]] == [*range(30000, 30032)]
    (container,) = raw.entry_template.spec["containers"]
    assert {"api", "kv"} < {port["name"] for port in container["ports"]}


def test_workers_take_the_entry_template_unless_they_have_their_own() -> None:
    entry = {"spec": {"containers": [], "nodeSelector": {"a": "entry"}}}
    worker = {"spec": {"containers": [], "nodeSelector": {"a": "worker"}}}
    alone = role(parallel={"data": 32}) | {"entryTemplate": entry}

    same, other = _raw(serving(alone)), _raw(serving(alone | {"workerTemplate": worker}))

    assert same.worker_template == same.entry_template
    assert other.worker_template is not None
    assert other.worker_template.spec["nodeSelector"] == {"a": "worker"}


def test_what_is_not_rendered_of_a_role_stays() -> None:
    launched = serving(role(replicas=3) | {"maxUnavailable": "50%"})

    assert (_raw(launched).replicas, _raw(launched).max_unavailable) == (3, "50%")


def test_the_router_learns_ports_phase_and_partners() -> None:
    metadata = _entry(example(), 1).metadata

    endpoints = PodEndpoints.model_validate_json(metadata.annotations[labels.ENDPOINTS])
    assert metadata.labels[labels.PHASE] == "decode"
    assert (endpoints.port, endpoints.ranks, endpoints.phase) == (7100, 16, Phase.DECODE)
    assert endpoints.kv_transfer == transfer_hash(resolve(example())[0].plan)


def test_only_sides_with_equal_sizes_connector_and_model_pair() -> None:
    variants = [
        pair(),
        pair(decode={"parallel": {"data": 8}}),
        pair(kvTransfer={"connector": "MooncakeConnectorV1"}),
        pair(model={"servedName": "x"}),
        pair(blockSize=64),
    ]
    hashes = [[transfer_hash(typed.plan) for typed in resolve(launched)] for launched in variants]

    assert all(prefill == decode for prefill, decode in hashes)
    assert len({prefill for prefill, _ in hashes}) == len(variants)
    assert transfer_hash(resolve(serving(role()))[0].plan) == ""


def test_ports_on_a_host_network_are_all_declared_for_the_scheduler() -> None:
    spec = _entry(example()).spec

    assert (spec["hostNetwork"], spec["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")
    ports = [port["containerPort"] for port in spec["containers"][0]["ports"]]
    assert ports == [*range(7100, 7104), 12321, *range(30000, 30016)]


def test_ports_on_a_pod_network_are_named_by_use() -> None:
    container = _container(pair())

    assert "hostNetwork" not in _entry(pair()).spec
    assert [(port["name"], port["containerPort"]) for port in container["ports"]] == [
        ("api", 7100),
        ("rpc", 12321),
        ("kv", 30000),
    ]


def test_a_pod_asks_for_the_devices_of_its_ranks() -> None:
    launched = serving(role(parallel={"data": 2, "tensor": 4}, resources={"cpu": 8, "memory": "1Gi"}))

    assert _container(launched)["resources"] == {
        "requests": {"cpu": "8", "memory": "1Gi", "huawei.com/Ascend910": "8"},
        "limits": {"memory": "1Gi", "huawei.com/Ascend910": "8"},
    }


def test_a_pod_on_cpus_asks_for_no_devices() -> None:
    assert _container(pair(kind="vLLM", accelerator={"type": "CPU"}, resources={"cpu": 1}))["resources"] == {
        "requests": {"cpu": "1"},
        "limits": {},
    }


def test_a_pod_with_one_process_offers_one_endpoint() -> None:
    metadata = _entry(serving(role(parallel={"data": 4, "dataMode": "Internal"}))).metadata

    assert PodEndpoints.model_validate_json(metadata.annotations[labels.ENDPOINTS]).ranks == 1


def test_a_pod_may_load_as_long_as_it_was_given_and_is_never_killed_for_being_busy() -> None:
    container = _container(serving(role(startupTimeoutSeconds=601)))

    probe = container["startupProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] >= 601
    assert probe["exec"] == container["readinessProbe"]["exec"] == {"command": ["bash", "/baton/ready.sh"]}
    assert "livenessProbe" not in container


def test_every_mount_has_its_volume() -> None:
    spec = _entry(example()).spec
    mounts = {mount["name"]: mount for mount in spec["containers"][0]["volumeMounts"]}

    assert [volume["name"] for volume in spec["volumes"]] == list(mounts)
    assert {name for name, mount in mounts.items() if not mount.get("readOnly")} == {"shared-memory"}
    assert {"dcmi", "npu-smi", "hccn-tool", "driver-lib64", "hccn-conf"} <= set(mounts)


def test_nvidia_needs_no_driver_mounts() -> None:
    names = [volume["name"] for volume in _entry(pair(kind="vLLM")).spec["volumes"]]

    assert names == ["launch", "shared-memory"]


def test_a_driver_that_the_runtime_brings_is_not_mounted() -> None:
    names = [volume["name"] for volume in _entry(pair(accelerator={"driver": "Runtime"})).spec["volumes"]]

    assert names == ["launch", "shared-memory"]


@pytest.mark.parametrize("name", [name for name in EXAMPLES if "-pd-" in name])
def test_a_shared_engine_runs_without_accelerators_by_one_patch(name: str) -> None:
    document = yaml.safe_load((ROOT / "examples" / name / "modelserving.yaml").read_text())
    patch = yaml.safe_load((ROOT / "examples" / "simulated-engine.patch.yaml").read_text())
    patched = ModelServing.read(merge_objects(document, patch), strict=True)

    for index in (0, 1):
        before, after = _entry(example(name), index), _entry(patched, index)
        assert [volume["name"] for volume in after.spec["volumes"]] == ["launch", "shared-memory"]
        assert after.spec["containers"][0]["image"] == "localhost/engine-sim:dev"
        assert "hostNetwork" not in after.spec
        assert after.metadata == before.metadata, "ports, ranks and KV transfer stay"


@pytest.mark.parametrize(
    ("source", "volume"),
    [
        ({"hostPath": {"path": "/models"}}, {"hostPath": {"path": "/models", "type": "Directory"}}),
        (
            {"persistentVolumeClaim": {"claimName": "c"}},
            {"persistentVolumeClaim": {"claimName": "c", "readOnly": True}},
        ),
    ],
)
def test_the_weights_come_from_their_source(source: dict[str, Any], volume: dict[str, Any]) -> None:
    spec = _entry(serving(role(), engine={"model": {"source": source}})).spec

    assert {"name": "model"} | volume in spec["volumes"]


def test_an_image_pull_policy_is_passed_on() -> None:
    assert _container(serving(role(imagePullPolicy="Always")))["imagePullPolicy"] == "Always"
    assert "imagePullPolicy" not in _container(serving(role()))
