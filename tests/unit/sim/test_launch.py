from __future__ import annotations

import json
from typing import Any

import pytest

from baton.sim.command_line import CommandLineError
from baton.sim.launch import Launch, read_launch

EXTRA = {"prefill": {"dp_size": 4, "tp_size": 4}, "decode": {"dp_size": 16, "tp_size": 1}}
TIMEOUTS = {"VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT": "60", "VLLM_NIXL_ABORT_REQUEST_TIMEOUT": "60"}


def start(text: str, config: dict[str, Any] | None = None, **environment: str) -> Launch:
    words = ["m", *text.split(), *(["--kv-transfer-config", json.dumps(config)] if config else [])]
    return read_launch(words, {"VLLM_HOST_IP": "10.0.0.1"} | environment, find_address=lambda: "10.9.9.9", unique="u")


def mooncake(role: str, port: int, connector: str = "MooncakeHybridConnector") -> dict[str, Any]:
    return {
        "kv_connector": connector,
        "kv_role": role,
        "kv_port": port,
        "engine_id": "e",
        "kv_connector_extra_config": EXTRA,
    }


def test_a_prefill_rank_binds_one_port_a_device_and_names_the_first() -> None:
    config = mooncake("kv_producer", 30000)
    launch = start("-dp 4 -dpn 2 -tp 4", config, ASCEND_RT_VISIBLE_DEVICES="8,9,10,11", **TIMEOUTS)
    assert launch.side_channel == range(30008, 30012)
    side = launch.side
    assert (side.host, side.port, side.tensor_size, side.engine_id) == ("10.0.0.1", 30008, 4, "e-u_dp2")
    assert (side.is_producer, side.is_consumer, launch.settings.kv_timeout) == (True, False, 60.0)
    assert launch.warnings == ()


def test_a_decode_rank_binds_nothing_and_agrees_on_the_terms() -> None:
    decode = start("-dp 16 -dpn 15", mooncake("kv_consumer", 30100))
    assert (len(decode.side_channel), decode.side.port) == (0, 30115)
    assert (decode.side.is_producer, decode.side.is_consumer) == (False, True)
    assert decode.side.terms == start("-dp 4 -dpn 0 -tp 4", mooncake("kv_producer", 30000)).side.terms
    assert decode.side.terms["prefill.tp_size"] == 4


def test_of_layerwise_engines_the_decode_binds() -> None:
    prefill = start("-dp 4 -dpn 2 -tp 4", mooncake("kv_producer", 30000, "MooncakeLayerwiseConnector"))
    decode = start("-dp 16 -dpn 15", mooncake("kv_consumer", 30100, "MooncakeLayerwiseConnector"))
    assert (len(prefill.side_channel), decode.side_channel) == (0, range(30115, 30116))
    assert prefill.side.is_layerwise is decode.side.is_layerwise is True


def test_all_ranks_of_internal_data_parallelism_are_one_process() -> None:
    launch = start("-dp 4 -tp 4", mooncake("kv_producer", 30000))
    assert (launch.side_channel, launch.group, launch.side.engine_id) == (range(30000, 30016), None, "e-u")


def test_nixl_has_its_port_from_the_environment() -> None:
    config = {"kv_connector": "NixlConnector", "kv_role": "kv_consumer"}
    variables = {"VLLM_NIXL_SIDE_CHANNEL_HOST": "10.0.0.2", "VLLM_NIXL_SIDE_CHANNEL_PORT": "5700"}
    launch = start("-dp 2 -dpn 1 -tp 4", config, **variables)
    assert (launch.side.host, launch.side_channel, launch.side.is_producer) == ("10.0.0.2", range(5701, 5702), True)


def test_the_group_is_that_of_the_command_line() -> None:
    launch = start(
        "-dp 4 -dpn 1 -dpa 10.0.0.9 -dpp 12321 -tp 4",
        mooncake("kv_producer", 30000),
        VLLM_ENGINE_READY_TIMEOUT_S="90",
    )
    assert launch.group is not None
    assert (launch.group.rank, launch.group.size, launch.group.seconds) == (1, 4, 90.0)
    assert (launch.group.address, launch.group.port) == ("10.0.0.9", 12321)
    assert (launch.group.terms["kv_port"], launch.group.terms["tensor_parallel_size"]) == (30000, 4)
    assert start("").group is None


def test_headless_ranks_hold_their_own_ports_and_meet_as_nodes() -> None:
    text = "-dp 4 -dpl 2 -dpa 10.0.0.9 -dpp 12321 -tp 4"
    entry = start(text, mooncake("kv_producer", 30000))
    worker = start(f"{text} --headless --data-parallel-start-rank 2", mooncake("kv_producer", 30000))

    assert (entry.side_channel, worker.side_channel) == (range(30000, 30008), range(30008, 30016))
    assert (entry.is_headless, worker.is_headless) == (False, True)
    assert entry.group is not None
    assert worker.group is not None
    assert [(place.member, place.rank, place.size, place.port) for place in (entry.group, worker.group)] == [
        ("node", 0, 2, 12321),
        ("node", 1, 2, 12321),
    ]
    assert entry.group.terms == worker.group.terms


def test_the_nodes_of_a_rank_share_its_ports_and_devices() -> None:
    config = mooncake("kv_producer", 30000) | {
        "kv_connector_extra_config": {"prefill": {"dp_size": 1, "tp_size": 4}, "decode": {"dp_size": 1, "tp_size": 1}}
    }
    text = "-tp 4 --nnodes 2 --master-addr 10.0.0.9 --master-port 7001"
    devices = {"ASCEND_RT_VISIBLE_DEVICES": "0,1"}
    entry, worker = start(f"{text} -r 0", config, **devices), start(f"{text} -r 1 --headless", config, **devices)

    assert (entry.side_channel, worker.side_channel) == (range(30000, 30002), range(30002, 30004))
    assert entry.group is not None
    assert worker.group is not None
    places = [
        (place.member, place.rank, place.size, place.address, place.port) for place in (entry.group, worker.group)
    ]
    assert places == [("node", 0, 2, "10.0.0.9", 7001), ("node", 1, 2, "10.0.0.9", 7001)]


def test_nixl_listens_on_the_first_node_of_a_rank() -> None:
    config = {"kv_connector": "NixlConnector", "kv_role": "kv_producer"}
    text = "-tp 4 --nnodes 2 --node-rank"

    assert start(f"{text} 0", config).side_channel == range(5600, 5601)
    assert len(start(f"{text} 1 --headless", config).side_channel) == 0


def test_the_engine_is_as_large_as_its_longest_request() -> None:
    assert start("--max-model-len 4096").settings.kv_blocks == 8192
    assert start("--max-model-len 2M --block-size 64").settings.kv_blocks == 32768
    assert start("", BATON_SIM_KV_BLOCKS="7").settings.kv_blocks == 7


def test_the_simulation_is_set_by_its_variables() -> None:
    launch = start(
        "--port 7100 --served-model-name a b --shutdown-timeout 9",
        BATON_SIM_LOAD_SECONDS="1.5",
        BATON_SIM_TOKENS_PER_SECOND="20",
        BATON_SIM_PREFILL_TOKENS_PER_SECOND="1000",
        BATON_SIM_EOS_RATE="0.1",
    )
    settings = launch.settings
    assert (settings.host, settings.ports, settings.models) == ("0.0.0.0", (7100,), ("a", "b"))
    assert (settings.tokens_per_second, settings.prefill_tokens_per_second, settings.eos_rate) == (20, 1000, 0.1)
    assert (launch.load_seconds, launch.shutdown_seconds) == (1.5, 9)


def test_without_a_host_address_the_machines_own_is_taken() -> None:
    assert start("", VLLM_HOST_IP="").side.host == "10.9.9.9"


def test_an_engine_without_transfer_takes_no_part_in_hand_overs() -> None:
    launch = start("")
    assert (launch.side.is_producer, launch.side.is_consumer, len(launch.side_channel)) == (False, False, 0)


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        (
            "-tp 2",
            {"ASCEND_RT_VISIBLE_DEVICES": "0"},
            r"World size \(2\) is larger than the number of available devices",
        ),
        ("-dp 2 -dpn 0", {"ASCEND_RT_VISIBLE_DEVICES": "0,1"}, "gives 2 devices to a DP rank of 1"),
        ("-tp 2", {"ASCEND_RT_VISIBLE_DEVICES": "3,3"}, "names a device twice"),
        ("", {"ASCEND_RT_VISIBLE_DEVICES": "npu0"}, "is no list of device numbers"),
        ("", {"CUDA_VISIBLE_DEVICES": ""}, "World size"),
        ("", {"BATON_SIM_LOAD_SECONDS": "soon"}, "BATON_SIM_LOAD_SECONDS: 'soon' is no number"),
        ("", {"BATON_SIM_LOAD_SECONDS": "-1"}, "-1 is not 0 or more"),
    ],
)
def test_an_environment_that_does_not_fit_is_refused(text: str, environment: dict[str, str], message: str) -> None:
    with pytest.raises(CommandLineError, match=message):
        start(text, None, **environment)


def test_ports_beyond_the_last_are_refused() -> None:
    with pytest.raises(CommandLineError, match="needs ports 65532 to 65547"):
        start("-dp 4 -tp 4", mooncake("kv_producer", 65532))


@pytest.mark.parametrize(
    ("text", "environment", "doubt"),
    [
        ("--speed 9", TIMEOUTS, "unrecognized arguments, which the real engine refuses: --speed 9"),
        ("", TIMEOUTS | {"HCCL_IF_IP": "10.0.0.7"}, "HCCL_IF_IP and VLLM_HOST_IP differ"),
        ("", {"VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT": "60"}, "which one counts depends on the version"),
    ],
)
def test_what_is_doubtful_is_told(text: str, environment: dict[str, str], doubt: str) -> None:
    launch = start(f"-dp 16 -dpn 0 {text}", mooncake("kv_consumer", 30100), **environment)
    assert [doubt in warning for warning in launch.warnings] == [True]
