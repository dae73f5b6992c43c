from __future__ import annotations

from baton.rendering import RankLaunch, launches
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


def _own_words(rank: RankLaunch) -> list[str]:
    """Return what the ranks of a replica do not have in common."""
    first = rank.argv.index("--shutdown-timeout") + 2
    return list(rank.argv[first:])


def test_with_internal_data_parallelism_the_workers_are_headless_and_know_their_first_rank() -> None:
    launched = serving(role(parallel={"data": 32, "dataMode": "Internal"}, flags={"api_server_count": 4}))
    entry, worker = launches(launched)

    assert [(rank.worker_index, rank.rank, rank.port) for rank in (entry, worker)] == [(0, 0, 7100), (1, 16, None)]
    assert _own_words(entry) == ["--host", "0.0.0.0", "--port", "7100", "--api-server-count", "4"]
    assert _own_words(worker) == ["--headless", "--data-parallel-start-rank", "16"]
    common = ["--data-parallel-size", "32", "--data-parallel-size-local", "16", "--data-parallel-address"]
    assert [*common, "$(POD_IP)"] == list(entry.argv[3:9])
    assert [*common, "m-0-server-0-0.team"] == list(worker.argv[3:9])


def test_the_nodes_of_a_rank_know_their_number_and_where_to_meet() -> None:
    launched = serving(role(parallel={"tensor": 16, "pipeline": 2}, ports={"master": 7002}))
    entry, worker = launches(launched)

    assert [(rank.worker_index, rank.rank, rank.port) for rank in (entry, worker)] == [(0, 0, 7100), (1, 0, None)]
    assert [rank.devices for rank in (entry, worker)] == [tuple(range(16))] * 2
    nodes = [list(rank.argv[3:13]) for rank in (entry, worker)]
    start, end = ["--data-parallel-size", "1", "--nnodes", "2"], ["--master-port", "7002"]
    assert nodes == [
        [*start, "--node-rank", "0", "--master-addr", "$(POD_IP)", *end],
        [*start, "--node-rank", "1", "--master-addr", "m-0-server-0-0.team", *end],
    ]
    assert (_own_words(entry), _own_words(worker)) == (["--host", "0.0.0.0", "--port", "7100"], ["--headless"])
    assert worker.document()["port"] is None


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
