"""Whatever typed engines hold: rendering answers with problems or with a launch that agrees with itself."""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baton.api.endpoints import Phase
from baton.api.engine import AcceleratorType, Attention, DataParallelMode, EngineKind
from baton.api.kv_transfer import KVConnector, LoadFailurePolicy, StoreBackend
from baton.api.problems import Severity
from baton.api.serving import ModelServing
from baton.rendering import RankLaunch, RolePlan, Sizes, expand, launches
from baton.rendering.merge import merge_objects
from baton.rendering.references import quote
from rendering_builders import EXAMPLES, ROOT, SHARED, raw, read

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
        dense=st.booleans(),
        attention=st.sampled_from(list(Attention)),
        kvHeads=sizes,
        source=optional(
            hostPath=st.fixed_dictionaries({"path": absolute}),
            persistentVolumeClaim=st.just({"claimName": "c"}),
            mountPath=absolute,
        ),
    ),
    phase=st.sampled_from(list(Phase)),
    accelerator=optional(type=st.sampled_from(list(AcceleratorType)), devicesPerNode=st.integers(1, 64)),
    parallel=optional(
        data=sizes,
        dataLocal=sizes,
        dataMode=st.sampled_from(list(DataParallelMode)),
        tensor=sizes,
        pipeline=sizes,
        prefillContext=sizes,
        decodeContext=sizes,
        expert=st.booleans(),
    ),
    ports=optional(api=ports, dataParallelRpc=ports, master=ports),
    kvTransfer=optional(
        connector=st.sampled_from(list(KVConnector)),
        port=ports,
        timeoutSeconds=sizes,
        loadFailurePolicy=st.sampled_from(list(LoadFailurePolicy)),
        store=optional(backend=st.sampled_from(list(StoreBackend)), master=st.just("m:1"), extraConfig=objects),
    ),
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
    removeFlags=st.lists(names, max_size=2),
    env=st.dictionaries(names | texts, texts, max_size=3),
    kvTransferExtraConfig=objects,
    speculativeConfig=st.fixed_dictionaries({"num_speculative_tokens": sizes}) | objects,
)
pod_specs = optional(
    containers=st.just([{"name": "engine", "env": [{"name": "A"}]}]) | st.just([{"name": "engine", "volumeMounts": 3}]),
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
def test_a_pair_agrees_and_shares_no_port_and_no_device(launched: ModelServing) -> None:
    assert_launch_agrees(launched)


@st.composite
def changed_examples(draw: st.DrawFn) -> ModelServing:
    """Draw an example of which a few fields have other values."""
    document = yaml.safe_load((ROOT / "examples" / draw(st.sampled_from(EXAMPLES)) / "modelserving.yaml").read_text())
    template = document["spec"]["template"]
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from([template, *template["roles"]]))
        place["engine"] = _with_change(place.get("engine") or {}, draw(fields))
    return ModelServing.read(document)


def _with_change(engine: dict[str, Any], change: tuple[tuple[str, ...], Any]) -> dict[str, Any]:
    (name, *below), value = change
    return engine | {name: _with_change(engine.get(name) or {}, (tuple(below), value)) if below else value}


# One field of an engine at a time: several at once are refused nearly always.
fields: st.SearchStrategy[tuple[tuple[str, ...], Any]] = st.one_of(
    st.tuples(st.sampled_from([("parallel", name) for name in ("data", "dataLocal", "tensor")]), sizes),
    st.tuples(st.sampled_from([("parallel", "prefillContext"), ("parallel", "decodeContext")]), sizes),
    st.tuples(st.just(("parallel", "pipeline")), sizes),
    st.tuples(st.just(("parallel", "dataMode")), st.sampled_from(["Internal", "External"])),
    st.tuples(
        st.sampled_from([*(("ports", use) for use in ("api", "dataParallelRpc", "master")), ("kvTransfer", "port")]),
        ports,
    ),
    st.tuples(st.just(("kvTransfer", "connector")), st.sampled_from([connector.value for connector in KVConnector])),
    st.tuples(st.just(("kvTransfer", "store")), st.sampled_from([{"master": "m:1"}, {"backend": "memcache"}])),
    st.tuples(st.just(("model", "attention")), st.sampled_from([attention.value for attention in Attention])),
    st.tuples(st.just(("model", "dense")), st.booleans()),
    st.tuples(st.just(("model", "kvHeads")), sizes),
    st.tuples(st.just(("accelerator",)), st.sampled_from([{"type": kind.value} for kind in AcceleratorType])),
    st.tuples(st.just(("accelerator", "devicesPerNode")), sizes),
    st.tuples(st.just(("kind",)), st.sampled_from([kind.value for kind in EngineKind])),
    st.tuples(st.just(("network", "hostNetwork")), st.booleans()),
    st.tuples(st.just(("phase",)), st.sampled_from([phase.value for phase in Phase])),
    st.tuples(st.sampled_from([("blockSize",), ("maxNumSeqs",), ("terminationGracePeriodSeconds",)]), sizes),
    st.tuples(st.sampled_from([("flags",), ("kvTransferExtraConfig",), ("additionalConfig",)]), objects),
    st.tuples(st.just(("env",)), st.dictionaries(names | texts, texts, max_size=3)),
)


@st.composite
def wide_parallels(draw: st.DrawFn) -> dict[str, Any]:
    """Draw sizes that take several nodes of 4 devices, served by the entry pod alone."""
    nodes = draw(st.integers(2, 4))
    if draw(st.booleans()):
        return {"data": 4 * nodes, "dataMode": "Internal"}
    shape = draw(st.sampled_from(["tensor", "pipeline", "prefillContext"]))
    return {"tensor": 4 * nodes} if shape == "tensor" else {"tensor": 4, shape: nodes}


@st.composite
def wide_servings(draw: st.DrawFn) -> ModelServing:
    """Draw a pair, or an aggregated role, of which some replicas take several nodes."""
    narrow = st.just({"data": 2})
    phases = draw(st.sampled_from([("prefill", "decode"), ("aggregated",)]))
    roles = [{"name": name, "replicas": 2, "engine": {"parallel": draw(wide_parallels() | narrow)}} for name in phases]
    shared = draw(
        st.fixed_dictionaries(
            {"network": st.fixed_dictionaries({"hostNetwork": st.booleans(), "interface": st.just("eth0")})},
            optional={
                "kvTransfer": st.fixed_dictionaries(
                    {"connector": st.sampled_from(list(KVConnector))},
                    optional={"port": st.sampled_from([29000, 30090])},
                ),
                "kind": st.just("vLLM"),
                "model": st.just({"attention": "MLA"}),
                "ports": st.sampled_from([{"master": 7100}, {"dataParallelRpc": 7000}]),
            },
        )
    )
    engine = merge_objects(SHARED, shared | {"accelerator": {"devicesPerNode": 4}})
    return read({"engine": engine, "roles": roles}, replicas=2)


@given(wide_servings())
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_replicas_over_several_nodes_are_refused_in_words_or_agree_with_themselves(launched: ModelServing) -> None:
    refusals = [problem for problem in expand(launched).problems if problem.severity is Severity.ERROR]
    assert all(problem.path and ";" in problem.message for problem in refusals)
    assert bool(assert_launch_agrees(launched)) is not bool(refusals)


@given(changed_examples())
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_a_changed_example_is_refused_in_words_or_agrees_with_itself(launched: ModelServing) -> None:
    refusals = [problem for problem in expand(launched).problems if problem.severity is Severity.ERROR]
    assert all(problem.path and ";" in problem.message for problem in refusals)
    assert bool(assert_launch_agrees(launched)) is not bool(refusals)


def assert_launch_agrees(launched: ModelServing) -> tuple[RankLaunch, ...]:
    """Check the launch of each pod by itself, and that both sides of a KV transfer say the same; return the launch."""
    plans = {plan.role: plan for plan in expand(launched).plans}
    all_ranks = launches(launched)
    pods: dict[tuple[str, str, int], list[RankLaunch]] = {}
    for rank in all_ranks:
        pods.setdefault((rank.serving_group, rank.role_id, rank.worker_index), []).append(rank)
    for ranks in pods.values():
        assert_pod_agrees(plans[ranks[0].role], ranks)
    transfers = [_hand_over(rank.kv_transfer_config) for rank in all_ranks if rank.kv_transfer_config]
    sides = {plan.phase.value: plan.sizes for plan in plans.values()}
    for transfer in transfers:
        assert transfer["kv_connector"] == transfers[0]["kv_connector"]
        if transfer["kv_connector"].startswith("Mooncake"):
            extra = transfer["kv_connector_extra_config"]
            assert {name: _sizes(extra[name]) for name in ("prefill", "decode")} == {
                name: _numbers(sides[name]) for name in ("prefill", "decode")
            }
            assert sides["prefill"].tensor >= sides["decode"].tensor
    return all_ranks


@given(changed_examples() | wide_servings())
@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
def test_every_port_a_pod_takes_on_a_host_network_is_declared_so_that_the_scheduler_keeps_pods_apart(
    launched: ModelServing,
) -> None:
    expanded = expand(launched)
    plans = {plan.role: plan for plan in expanded.plans}
    declared: dict[tuple[str, bool], list[int]] = {}
    for each in expanded.roles:
        for template, is_entry in ((each.entry_template, True), (each.worker_template, False)):
            if template is not None and template.spec.get("hostNetwork"):
                (container,) = template.spec["containers"]
                ports = [port["containerPort"] for port in container["ports"]]
                assert all(port["hostPort"] == port["containerPort"] for port in container["ports"])
                assert len({port["name"] for port in container["ports"]}) == len(set(ports)) == len(ports)
                assert all(len(port["name"]) <= 15 for port in container["ports"])
                declared[each.name, is_entry] = ports
    for rank in launches(launched):
        if plans[rank.role].host_network:
            assert ports_of(plans[rank.role], rank) <= {*declared[rank.role, rank.worker_index == 0]}


def ports_of(plan: RolePlan, rank: RankLaunch) -> set[int]:
    """Return the ports that a process opens, as its command line and environment say."""
    used = {rank.port} - {None}
    is_first = rank.worker_index == 0 and rank.rank == 0
    for name in ("--data-parallel-rpc-port", "--master-port"):
        if name in rank.argv and is_first:
            used.add(int(rank.argv[rank.argv.index(name) + 1]))
    if rank.kv_transfer_config is not None:
        part = rank.worker_index * len(rank.devices) if "--nnodes" in rank.argv else 0
        if "VLLM_NIXL_SIDE_CHANNEL_PORT" in rank.env:
            first, count = int(rank.env["VLLM_NIXL_SIDE_CHANNEL_PORT"]) + rank.rank, plan.ranks_per_process
        else:
            first = _hand_over(rank.kv_transfer_config)["kv_port"] + rank.rank * plan.sizes.devices_per_rank + part
            count = len(rank.devices)
        used |= {*range(first, first + count)}
    return {port for port in used if port is not None}


def assert_pod_agrees(plan: RolePlan, ranks: list[RankLaunch]) -> None:
    used = [port for rank in ranks for port in ports_of(plan, rank)]
    devices = [device for rank in ranks for device in rank.devices]
    is_headless = "--headless" in ranks[0].argv
    assert all(("--headless" in rank.argv, rank.port is None) == (is_headless, is_headless) for rank in ranks)
    assert is_headless is (plan.has_headless_workers and ranks[0].worker_index > 0)
    assert len(used) == len(set(used))
    assert all(0 < port < 65536 for port in used)
    assert sorted(devices) == list(range(plan.devices_per_pod))
    assert plan.devices_per_pod <= plan.devices_per_node


def _hand_over(config: dict[str, Any]) -> dict[str, Any]:
    """Return the connector that hands over: with a store the first child."""
    if config["kv_connector"] != "MultiConnector":
        return config
    first: dict[str, Any] = config["kv_connector_extra_config"]["connectors"][0]
    return first


def _sizes(block: dict[str, int]) -> tuple[int, int, int]:
    return block["dp_size"], block["tp_size"], block.get("pp_size", 1)


def _numbers(size: Sizes) -> tuple[int, int, int]:
    return size.data, size.tensor, size.pipeline


@given(sound_servings())
@settings(max_examples=25)
def test_no_text_of_the_users_breaks_the_script(launched: ModelServing) -> None:
    for files in expand(launched).config_maps:
        for text in files.data.values():
            subprocess.run(["bash", "-n"], input=text.encode(), check=True)


@given(st.lists(texts.filter(lambda text: "\0" not in text), max_size=20))
@settings(max_examples=25)
def test_a_quoted_word_is_what_was_quoted(words: list[str]) -> None:
    plain = [word for word in words if "$(" not in word]

    command = f"printf '%s\\0' begin {' '.join(map(quote, plain))}"
    output = subprocess.run(["bash", "-uc", command], check=True, capture_output=True).stdout

    assert output == b"".join(word.encode() + b"\0" for word in ["begin", *plain])
    assert [shlex.split(quote(word)) for word in plain] == [[word] for word in plain]
