from __future__ import annotations

from typing import Any

import pytest

from baton.sim.command_line import CommandLineError
from baton.sim.kv_transfer_config import KVTransferConfig, Sizes, read_kv_transfer_config

PREFILL, DECODE = Sizes(4, 4), Sizes(16, 1)
EXTRA: dict[str, Any] = {"prefill": {"dp_size": 4, "tp_size": 4}, "decode": {"dp_size": 16, "tp_size": 1}}


def config(**changes: Any) -> dict[str, Any]:
    """Return the configuration of a prefill; None removes a field."""
    fields = {
        "kv_connector": "MooncakeHybridConnector",
        "kv_role": "kv_producer",
        "kv_port": 30000,
        "engine_id": "e",
        "kv_connector_extra_config": EXTRA,
    } | changes
    return {name: value for name, value in fields.items() if value is not None}


def extra(**changes: Any) -> dict[str, Any]:
    """Return the configuration of a prefill with other sizes, such as prefill={"tp_size": 8}; None removes."""
    kept = {}
    for side, block in EXTRA.items():
        if (change := changes.get(side, {})) is not None:
            kept[side] = {key: value for key, value in (block | change).items() if value is not None}
    return config(kv_connector_extra_config=kept)


def read(document: dict[str, Any], own: Sizes = PREFILL) -> KVTransferConfig:
    result = read_kv_transfer_config(document, own)
    assert result is not None
    return result


def test_both_sides_of_a_pair_start() -> None:
    prefill, decode = read(config()), read(config(kv_role="kv_consumer", kv_port="30100"), DECODE)
    assert (prefill.prefill, prefill.decode) == (decode.prefill, decode.decode) == (PREFILL, DECODE)
    assert (prefill.port, decode.port, prefill.engine_id, prefill.warnings) == (30000, 30100, "e", ())


def test_without_a_connector_there_is_no_transfer() -> None:
    assert read_kv_transfer_config({"kv_role": "kv_both"}, PREFILL) is None


def test_nixl_is_not_told_sizes() -> None:
    nixl = read({"kv_connector": "NixlConnector", "kv_role": "kv_consumer"})
    assert (nixl.prefill, nixl.decode, nixl.engine_id) == (None, None, None)


def test_of_several_connectors_the_one_that_hands_over_counts() -> None:
    child = config(engine_id=None)
    store = {"kv_connector": "AscendStoreConnector", "kv_role": "kv_producer"}
    document = config(kv_connector="MultiConnector", kv_connector_extra_config={"connectors": [child, store]})
    assert read(document) == read(config())
    for children, message in (
        ([child | {"engine_id": "e"}], "multiple values for keyword argument 'engine_id'"),
        ([child, child], "Only one connector can produce KV transfer params"),
        ([store], "without a connector that hands over"),
        ("x", "is no list of connectors"),
    ):
        with pytest.raises(CommandLineError, match=message):
            read(document | {"kv_connector_extra_config": {"connectors": children}})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (config(kv_role=None), "ValueError: Please specify kv_role when kv_connector is set"),
        (config(kv_role="producer"), "ValueError: Unsupported kv_role: producer. Supported roles are"),
        (config(kv_connector="Pigeon"), "ValueError: Unsupported connector type: Pigeon"),
        (config(kv_connector=["MooncakeConnectorV1"]), "ValueError: Unsupported connector type: ["),
        (config(kv_connector="UCMConnector"), "UCMConnector is not simulated"),
        (config(kv_speed=1), "kv_speed: Unexpected keyword argument"),
        (config(kv_port="x"), "kv_port: 'x' is no port"),
        (config(kv_port=70000), "kv_port: 70000 is no port"),
        (config(kv_connector_extra_config=[]), "kv_connector_extra_config: must be an object"),
        (config(kv_load_failure_policy="hope"), "kv_load_failure_policy: Input should be 'recompute' or 'fail'"),
        (config(kv_load_failure_policy="recompute"), "recompute does not go with hybrid models"),
        (
            extra(prefill={"tp_size": 8}),
            "'prefill' config has a conflicting tensor parallel size. Expected 4, but got 8.",
        ),
        (
            extra(prefill={"dp_size": 8}),
            "'prefill' config has a conflicting data parallel size. Expected 4, but got 8.",
        ),
        (extra(prefill={"tp_size": "4"}), "Expected 4, but got 4. It is '4', where only an integer is one."),
        (extra(prefill={"pp_size": 2}), "conflicting pipeline parallel size. Expected 1, but got 2."),
        (extra(prefill={"tp_size": None}), "AssertionError: kv_connector_extra_config.prefill.tp_size is missing"),
        (extra(decode={"dp_size": None}), "AssertionError: kv_connector_extra_config.decode.dp_size is missing"),
        (extra(decode=None), "AssertionError: kv_connector_extra_config.decode is missing"),
        (extra(decode={"tp_size": "1"}), "TypeError: kv_connector_extra_config.decode.tp_size is '1'"),
        (extra(decode={"pp_size": 2}), "AssertionError: decode pp size must be 1"),
        (extra(decode={"tp_size": 8}), "prefill_tp_size: 4 must be greater than or equal to the decode_tp_size: 8"),
    ],
)
def test_what_the_real_engine_refuses_is_refused(document: dict[str, Any], message: str) -> None:
    with pytest.raises(CommandLineError) as refusal:
        read(document)
    assert message in str(refusal.value)


def test_a_decode_compares_its_own_block() -> None:
    with pytest.raises(CommandLineError, match="'decode' config has a conflicting data parallel size"):
        read(config(kv_role="kv_consumer"), Sizes(8, 1))


def test_the_hybrid_connector_knows_no_context_parallelism() -> None:
    with pytest.raises(CommandLineError, match="only support cp_world_size == 1"):
        read(config(), Sizes(4, 4, context=2))
    v1 = config(kv_connector="MooncakeConnectorV1", kv_load_failure_policy="recompute")
    assert read(v1, Sizes(4, 4, context=2)).recomputes


def test_what_starts_but_will_not_work_is_doubted() -> None:
    both = read(config(kv_role="kv_both", kv_connector_extra_config=EXTRA | {"decode": EXTRA["prefill"]}))
    assert "kv_both" in both.warnings[0]
    assert "goes stale" in read(config(kv_connector_module_path="x")).warnings[0]
