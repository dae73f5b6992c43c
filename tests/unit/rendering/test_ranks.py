from __future__ import annotations

from baton.rendering import launches
from rendering_builders import pair, role, serving


def test_there_is_one_entry_for_each_rank_of_each_replica() -> None:
    launched = serving(role("a", replicas=2, parallel={"data": 2}), role("b", replicas=0), role("c"), replicas=2)

    assert [(rank.serving_group, rank.role_id, rank.rank) for rank in launches(launched)] == [
        (group, role_id, rank)
        for group in ("m-0", "m-1")
        for role_id, rank in (("a-0", 0), ("a-0", 1), ("a-1", 0), ("a-1", 1), ("c-0", 0))
    ]


def test_ranks_go_on_in_the_workers_and_meet_at_the_entry_pod() -> None:
    ranks = launches(serving(role(parallel={"data": 4, "dataLocal": 2, "tensor": 8})))

    assert [(rank.worker_index, rank.rank, rank.port, rank.devices[0]) for rank in ranks] == [
        (0, 0, 7100, 0),
        (0, 1, 7101, 8),
        (1, 2, 7100, 0),
        (1, 3, 7101, 8),
    ]
    addresses = [rank.argv[rank.argv.index("--data-parallel-address") + 1] for rank in ranks]
    assert addresses == ["$(POD_IP)", "$(POD_IP)", "m-0-server-0-0.team", "m-0-server-0-0.team"]


def test_the_kv_transfer_is_that_of_the_replica() -> None:
    ids = {rank.role_id: rank.document()["kvTransferConfig"]["engine_id"] for rank in launches(pair())}

    assert ids == {"prefill-0": "m-0-prefill-0", "decode-0": "m-0-decode-0"}


def test_the_document_has_the_names_of_json() -> None:
    document = launches(pair())[0].document()

    assert list(document) == [
        "servingGroup",
        "role",
        "roleId",
        "workerIndex",
        "rank",
        "port",
        "devices",
        "env",
        "argv",
        "kvTransferConfig",
    ]
    assert document["env"]["ASCEND_RT_VISIBLE_DEVICES"] == "0,1"


def test_nothing_is_launched_with_an_error() -> None:
    assert launches(serving(role(), engine={"image": None})) == ()
