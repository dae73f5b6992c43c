"""Whatever typed engines hold: rendering answers with problems or with a launch that agrees with itself."""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baton.api.endpoints import Phase
from baton.api.engine import AcceleratorType, EngineKind, KVConnector
from baton.api.serving import ModelServing
from baton.rendering import RolePlan, Sizes, expand, launches
from baton.rendering.merge import merge_objects
from baton.rendering.references import quote
from rendering_builders import SHARED, raw, read

names = st.sampled_from(["max-num-seqs", "port", "no-x", "a b", "enable_y", "HCCL_IF_IP", "LD_PRELOAD", "rank", "Z"])
texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(["$(POD_IP)", "$(rank)", "it's", "$HOME"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(texts, below, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(names | texts, values, max_size=3)
sizes = st.sampled_from([1, 2, 3, 4, 8, 16, 32])
ports = st.integers(1, 65535) | st.sampled_from([7100, 12321, 30000, 65535])
paths = st.sampled_from(["/models/m", "/models", "/", "m"])


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects with any of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


absolute = st.sampled_from(["/models/m", "/models", "/"])
engines = optional(
    kind=st.sampled_from(list(EngineKind)),
    image=st.just("engine:2"),
    model=optional(
        path=paths,
        servedName=st.sampled_from(["a", "b"]),
        source=optional(
            hostPath=st.fixed_dictionaries({"path": absolute}),
            persistentVolumeClaim=st.just({"claimName": "c"}),
            mountPath=absolute,
        ),
    ),
    phase=st.sampled_from(list(Phase)),
    accelerator=optional(type=st.sampled_from(list(AcceleratorType)), devicesPerNode=st.integers(1, 64)),
    parallel=optional(data=sizes, dataLocal=sizes, tensor=sizes, pipeline=sizes, expert=st.booleans()),
    ports=optional(api=ports, dataParallelRpc=ports),
    kvTransfer=optional(connector=st.sampled_from(list(KVConnector)), port=ports, timeoutSeconds=sizes),
    network=optional(hostNetwork=st.booleans(), interface=st.sampled_from(["eth0", "a'b"])),
    resources=optional(cpu=sizes, memory=st.just("1Gi"), sharedMemory=st.just("1Gi")),
    blockSize=sizes,
    gpuMemoryUtilization=st.floats(0.1, 1),
    asyncScheduling=st.booleans(),
    toolCallParser=texts,
    additionalConfig=objects,
    startupTimeoutSeconds=st.integers(1, 9000),
    terminationGracePeriodSeconds=st.integers(1, 9000),
    flags=objects,
    env=st.dictionaries(names | texts, texts, max_size=3),
    kvTransferExtraConfig=objects,
)
pod_specs = optional(
    containers=st.just([{"name": "engine", "env": [{"name": "A"}]}]) | st.just([{"name": "engine", "env": 3}]),
    volumes=values,
    nodeSelector=values,
    hostNetwork=st.booleans(),
)


@st.composite
def servings(draw: st.DrawFn, engine: st.SearchStrategy[dict[str, Any]] = engines) -> ModelServing:
    """Draw a ModelServing with up to three typed roles and perhaps a raw one."""
    shared = draw(st.none() | engine.map(lambda own: merge_objects(SHARED, own)))
    roles = [
        {"name": name, "engine": draw(engine), "replicas": draw(st.integers(0, 2))}
        | draw(optional(entryTemplate=st.fixed_dictionaries({"spec": pod_specs}), workerReplicas=st.integers(0, 3)))
        for name in draw(st.sampled_from([["prefill", "decode"], ["server"], ["prefill", "decode", "more"]]))
    ]
    template = {"engine": shared, "roles": [*roles, *([raw()] if shared is None else [])]}
    return read(template, replicas=draw(st.integers(0, 2)))


# Sound engines with free choice of what may go wrong together: sizes, ports and free text.
tame = optional(
    parallel=optional(data=sizes, tensor=sizes),
    ports=optional(api=st.integers(1000, 60000)),
    env=st.dictionaries(st.sampled_from(["A", "B"]), texts, max_size=2),
    flags=st.dictionaries(st.sampled_from(["a", "b-c"]), values, max_size=2),
    additionalConfig=objects,
)


@st.composite
def sound_servings(draw: st.DrawFn) -> ModelServing:
    """Draw a pair that is refused only for its sizes and ports."""
    roles = [{"name": name, "engine": draw(tame), "replicas": 1} for name in ("prefill", "decode")]
    return read({"engine": SHARED, "roles": roles})


@given(servings())
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_rendering_answers_every_engine_with_a_launch_or_with_problems(launched: ModelServing) -> None:
    expanded = expand(launched)

    assert expanded.has_errors is (expanded.roles == ())
    assert all(problem.path and ";" in problem.message for problem in expanded.problems)
    for role in expanded.roles:
        assert role.engine is None
        assert role.entry_template is not None
        assert (role.worker_template is None) is (role.worker_replicas == 0)


@given(sound_servings())
@settings(max_examples=60)
def test_rendering_is_the_same_each_time_and_for_any_order_of_keys(launched: ModelServing) -> None:
    stored = ModelServing.read(json.loads(json.dumps(launched.document(), sort_keys=True)))

    assert expand(launched) == expand(launched)
    assert expand(stored).config_maps == expand(launched).config_maps


@given(sound_servings())
@settings(max_examples=60)
def test_ranks_of_a_pod_share_no_port_and_no_device(launched: ModelServing) -> None:
    plans = {plan.role: plan for plan in expand(launched).plans}
    pods: dict[tuple[str, int], list[tuple[list[int], list[int]]]] = {}
    for rank in launches(launched):
        taken = [rank.port, *_kv_ports(plans[rank.role], rank.rank)]
        pods.setdefault((rank.role_id, rank.worker_index), []).append((taken, list(rank.devices)))
    for (role_id, _), ranks in pods.items():
        plan = plans[role_id.rpartition("-")[0]]
        used = [port for taken, _ in ranks for port in taken] + ([plan.rpc_port] if plan.rpc_port else [])
        devices = [device for _, held in ranks for device in held]
        assert len(used) == len(set(used))
        assert all(0 < port < 65536 for port in used)
        assert sorted(devices) == list(range(plan.devices_per_pod))
        assert plan.devices_per_pod <= plan.devices_per_node


def _kv_ports(plan: RolePlan, rank: int) -> range:
    assert plan.kv is not None
    size = plan.sizes.devices_per_rank
    return range(plan.kv.port + rank * size, plan.kv.port + (rank + 1) * size)


@given(sound_servings())
@settings(max_examples=60)
def test_both_sides_agree_on_the_sizes_that_each_side_has(launched: ModelServing) -> None:
    plans = {plan.role: plan for plan in expand(launched).plans}
    for rank in launches(launched):
        assert rank.kv_transfer_config is not None
        extra = rank.kv_transfer_config["kv_connector_extra_config"]
        assert extra == {name: _block(plan.sizes) for name, plan in plans.items()}
    if launches(launched):
        assert plans["prefill"].sizes.tensor >= plans["decode"].sizes.tensor


def _block(size: Sizes) -> dict[str, int]:
    return {"dp_size": size.data, "tp_size": size.tensor}


@given(sound_servings())
@settings(max_examples=25, deadline=None)
def test_no_text_of_the_users_breaks_the_script(launched: ModelServing) -> None:
    for files in expand(launched).config_maps:
        for text in files.data.values():
            subprocess.run(["bash", "-n"], input=text.encode(), check=True)


@given(st.lists(texts.filter(lambda text: "\0" not in text), max_size=20))
@settings(max_examples=25, deadline=None)
def test_a_quoted_word_is_what_was_quoted(words: list[str]) -> None:
    plain = [word for word in words if "$(" not in word]

    command = f"printf '%s\\0' begin {' '.join(map(quote, plain))}"
    output = subprocess.run(["bash", "-uc", command], check=True, capture_output=True).stdout

    assert output == b"".join(word.encode() + b"\0" for word in ["begin", *plain])
    assert [shlex.split(quote(word)) for word in plain] == [[word] for word in plain]
