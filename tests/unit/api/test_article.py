"""The files of examples/article: valid objects that fit together, and scripts that start the right engines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from baton.api import labels
from baton.api.admission import check_route, check_server, check_serving
from baton.api.documents import read_documents
from baton.api.route import ModelRoute
from baton.api.server import ModelServer
from baton.api.serving import ModelServing

if TYPE_CHECKING:
    from baton.api.meta import JsonObject, Kind

ARTICLE = Path(__file__).parents[3] / "examples" / "article"
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
ADDRESS = "10.0.0.7"
# What net-tools prints, for two interfaces of which the second holds the pod's address.
IFCONFIG = f"""#!/bin/sh
cat <<END
lo: flags=73<UP,LOOPBACK,RUNNING>  mtu 65536
        inet 127.0.0.1  netmask 255.0.0.0
enp23s0f3: flags=4163<UP,BROADCAST,RUNNING,MULTICAST>  mtu 1500
        inet {ADDRESS}  netmask 255.255.0.0  broadcast 10.0.255.255
        inet6 fe80::1  prefixlen 64  scopeid 0x20<link>
END
"""
VLLM = """#!{python}
import json, os, sys
json.dump({{"pid": os.getpid(), "arguments": sys.argv[1:], "environment": dict(os.environ)}}, sys.stdout)
"""


def objects(name: str) -> list[Kind]:
    return read_documents((ARTICLE / name).read_text(), strict=True)


def serving() -> ModelServing:
    (found,) = objects("deepseek-serv.yaml")
    assert isinstance(found, ModelServing)
    return found


def containers() -> dict[str, JsonObject]:
    found = {}
    for role in serving().spec.template.roles:
        assert role.entry_template is not None
        (found[role.name],) = role.entry_template.spec["containers"]
    return found


def config_maps() -> dict[str, dict[str, str]]:
    documents = yaml.safe_load_all((ARTICLE / "config.yaml").read_text())
    return {document["metadata"]["name"]: document["data"] for document in documents}


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    for name, text in config_maps()["deepseekv4-pd-scripts"].items():
        (tmp_path / name).write_text(text)
    for name, text in {"ifconfig": IFCONFIG, "vllm": VLLM.format(python=sys.executable)}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def start(scripts: Path, role: str, *, address: str = ADDRESS) -> subprocess.Popen[str]:
    environment = {
        **config_maps()["deepseekv4-pd-environment"],
        "PATH": f"{scripts}:{os.environ['PATH']}",
        "MODEL_LOCATION": "/models/DeepSeek-V4-Flash-w8a8-mtp",
        "POD_IP": address,
        "GROUP_NAME": "deepseekv4-pd-0",
        "ROLE_ID": f"{role}-1",
        "http_proxy": "http://proxy.example:3128",
    }
    return subprocess.Popen(
        ["bash", scripts / f"{role}.sh"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def started(scripts: Path, role: str) -> dict[str, Any]:
    process = start(scripts, role)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    seen = json.loads(out)
    assert isinstance(seen, dict)
    assert seen["pid"] == process.pid, "vllm must replace the shell, or SIGTERM would not reach it"
    return seen


def flags(arguments: list[str]) -> dict[str, str]:
    assert arguments[:2] == ["serve", "/models/DeepSeek-V4-Flash-w8a8-mtp"]
    found: dict[str, str] = {}
    name = ""
    for argument in arguments[2:]:
        if argument.startswith("--"):
            name = argument
            assert name not in found, f"{name} is given twice"
            found[name] = ""
        else:
            found[name] = argument
    return found


@pytest.mark.parametrize("name", ["modelRoute.yaml", "modelRoute-inline.yaml", "deepseek-serv.yaml"])
def test_the_objects_are_accepted_without_a_remark(name: str) -> None:
    for each in objects(name):
        match each:
            case ModelServing():
                assert check_serving(each) == []
            case ModelRoute():
                assert check_route(each) == []
            case ModelServer():
                assert check_server(each) == []
            case _:
                pytest.fail(f"nobody checks a {each.kind}")


def test_both_ways_to_route_say_the_same() -> None:
    server, route = objects("modelRoute.yaml")
    (inline,) = objects("modelRoute-inline.yaml")
    assert isinstance(server, ModelServer)
    assert isinstance(route, ModelRoute)
    assert isinstance(inline, ModelRoute)

    assert inline.metadata.name == route.metadata.name
    assert inline.spec.model_name == route.spec.model_name == server.spec.model
    assert inline.spec.pd_group == server.spec.workload_selector.pd_group
    assert inline.spec.kv_connector == server.spec.kv_connector
    assert inline.spec.traffic_policy == server.spec.traffic_policy
    assert inline.spec.workload_port == server.spec.workload_port
    assert route.spec.rules[0].target_models[0].model_server_name == server.metadata.name
    assert inline.spec.rules[0].target_models[0].model_serving_name == serving().metadata.name


def test_the_route_selects_the_pods_of_the_serving() -> None:
    server, _ = objects("modelRoute.yaml")
    assert isinstance(server, ModelServer)
    group = server.spec.workload_selector.pd_group
    assert group is not None

    assert server.spec.workload_selector.match_labels == {labels.NAME: serving().metadata.name}
    assert group.group_key == labels.GROUP_NAME
    assert [group.prefill_labels, group.decode_labels] == [
        {labels.ROLE: role.name} for role in serving().spec.template.roles
    ]


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_a_pod_takes_a_node_and_the_files_it_needs(role: str) -> None:
    container = containers()[role]

    assert container["command"] == ["bash", f"/scripts/{role}.sh"]
    assert container["resources"]["requests"]["huawei.com/ascend-1980"] == "16"
    assert [source["configMapRef"]["name"] for source in container["envFrom"]] == ["deepseekv4-pd-environment"]
    assert container["ports"] == [{"name": "http", "containerPort": 7100}]


def test_scripts_pass_shellcheck(scripts: Path) -> None:
    names = [scripts / name for name in config_maps()["deepseekv4-pd-scripts"]]
    for name in names:
        subprocess.run(["bash", "-n", name], check=True, timeout=20)

    checked = subprocess.run(
        [SHELLCHECK, "--external-sources", "--source-path=SCRIPTDIR", *names],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert checked.stdout == ""


@pytest.mark.parametrize(
    ("role", "kv_role", "data", "tensor"), [("prefill", "kv_producer", 2, 8), ("decode", "kv_consumer", 8, 2)]
)
def test_a_script_starts_the_engine_of_its_role(scripts: Path, role: str, kv_role: str, data: int, tensor: int) -> None:
    given = flags(started(scripts, role)["arguments"])

    assert given["--data-parallel-size"] == given["--data-parallel-size-local"] == str(data)
    assert given["--tensor-parallel-size"] == str(tensor)
    assert given["--port"] == "7100"
    assert given["--host"] == given["--data-parallel-address"] == ADDRESS
    assert json.loads(given["--kv-transfer-config"]) == {
        "kv_connector": "MooncakeConnectorV1",
        "kv_role": kv_role,
        "kv_port": 9000,
        "engine_id": f"deepseekv4-pd-0_{role}-1",
        "kv_connector_extra_config": {
            "prefill": {"dp_size": 2, "tp_size": 8},
            "decode": {"dp_size": 8, "tp_size": 2},
        },
    }
    assert json.loads(given["--additional-config"]) == {"enable_cpu_binding": True}


def test_decode_batches_hold_every_sequence_with_its_draft_tokens(scripts: Path) -> None:
    given = flags(started(scripts, "decode")["arguments"])

    drafts = json.loads(given["--speculative-config"])["num_speculative_tokens"]
    assert int(given["--max-num-batched-tokens"]) == int(given["--max-num-seqs"]) * (1 + drafts)


def test_both_roles_agree_on_what_both_sides_of_a_transfer_must_share(scripts: Path) -> None:
    prefill, decode = (flags(started(scripts, role)["arguments"]) for role in ("prefill", "decode"))

    for name in ("--served-model-name", "--seed", "--max-model-len", "--quantization", "--chat-template"):
        assert prefill[name] == decode[name]


def test_the_engine_gets_the_interface_of_its_address_and_no_proxy(scripts: Path) -> None:
    environment = started(scripts, "prefill")["environment"]

    names = ("GLOO_SOCKET_IFNAME", "HCCL_SOCKET_IFNAME", "TP_SOCKET_IFNAME")
    assert {environment[name] for name in names} == {"enp23s0f3"}
    assert "http_proxy" not in environment


def test_a_script_says_why_it_does_not_start(scripts: Path) -> None:
    process = start(scripts, "decode", address="10.9.9.9")
    out, err = process.communicate(timeout=20)

    assert process.returncode == 1
    assert (out, err) == ("", "no network interface holds the pod's address 10.9.9.9\n")
