"""The main job as its users do it: install, apply, ask, scale, lose a pod, restart, upgrade, uninstall.

The tests build on each other and run in this order, on one installation.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from baton.dev.provider import ControlPlaneError
from chart.rendering import NAMESPACE
from e2e.conftest import values
from e2e.engines import EXAMPLE, ROLES, look_inside, ranks, scale, simulated, states
from e2e.load import MODEL, STREAMS, Record, ask_once, keep_asking
from namespace import Namespace

if TYPE_CHECKING:
    from baton.dev.kubectl import Kubectl
    from chart.installation import Installation
    from e2e.images import Images
    from e2e.steps import Steps

pytestmark = pytest.mark.e2e

PATIENCE = 240.0
PREFILL, DECODE = "dsv4-0-prefill-0-0", "dsv4-0-decode-0-0"


def check_all_right(records: list[Record], steps: Steps) -> None:
    """Nothing lost, nothing wrong: every chat got its whole text, to the last token."""
    tokens = sum(record.pieces for record in records)
    wrong = [record for record in records if record.problem]
    steps.say(f"{len(records)} chats with {tokens} tokens, {len(wrong)} of them lost or wrong")
    assert wrong == []


def uids(models: Namespace) -> dict[str, str]:
    """Return the uid of each of the users' objects and of what belongs to them."""
    items = models.get("modelservings,modelroutes,pods,configmaps")["items"]
    own = [item for item in items if item["metadata"]["name"].startswith(MODEL)]
    return {f"{item['kind']} {item['metadata']['name']}": item["metadata"]["uid"] for item in own}


def test_operator_and_router_run_without_privileges(installation: Installation, kubectl: Kubectl, steps: Steps) -> None:
    system = Namespace(kubectl, NAMESPACE)
    pods = system.get("pods")["items"]

    assert len(pods) == 4, "two operators and two routers"
    for pod in pods:
        inside = look_inside(system, pod["metadata"]["name"])
        steps.say(f"{describe(pod)}: user {inside.user}, capabilities {inside.capabilities:#x}")
        assert (inside.user, inside.capabilities) == (65532, 0)
        assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


def describe(pod: dict[str, Any]) -> str:
    return f"pod {pod['metadata']['name']} on {pod['spec']['nodeName']} ({pod['status'].get('podIP')})"


def test_the_webhook_refuses_a_bad_model_with_the_field(models: Namespace) -> None:
    text = (EXAMPLE / "modelserving.yaml").read_text().replace("tensor: 4", "tensor: 32")

    with pytest.raises(ControlPlaneError, match=r"spec\.template\.roles\[0\]\.engine\.parallel"):
        models.run("apply", "--filename=-", standard_input=text)


def test_the_example_becomes_available(models: Namespace, images: Images, steps: Steps) -> None:
    with steps.timed("kubectl apply until Available"):
        models.run("apply", "--filename=-", standard_input=simulated(models.kubectl, engine=images.engine))
        models.run("apply", f"--filename={EXAMPLE / 'modelroute.yaml'}")
        models.wait_available(MODEL, patience=PATIENCE)
    models.wait_for("condition=Programmed", f"modelroute/{MODEL}")

    assert set(models.pods(name=MODEL)) == {PREFILL, DECODE}


@pytest.mark.parametrize(("pod", "data", "tensor"), [(PREFILL, 4, 4), (DECODE, 16, 1)])
def test_the_rendered_launch_runs_every_rank(models: Namespace, steps: Steps, pod: str, data: int, tensor: int) -> None:
    inside = look_inside(models, pod)
    lines = ranks(inside)

    steps.say(f"{describe(models.get('pod', pod))}: user {inside.user}, {len(lines)} processes of vllm serve")
    steps.say(" ".join(lines[data - 1]))
    steps.say("\n".join(models.run("logs", pod, "--tail=5").splitlines()))
    assert inside.user != 0
    assert inside.capabilities == 0
    assert sorted(lines) == list(range(data))
    for line in lines.values():
        flags = dict(pairwise(line))
        assert (flags["--data-parallel-size"], flags["--tensor-parallel-size"]) == (str(data), str(tensor))
    assert {int(line.split("]")[0]) for line in models.run("logs", pod).split("[rank ")[1:]} == set(range(data))


def test_a_chat_streams_through_the_routers_service(models: Namespace, images: Images, steps: Steps) -> None:
    with steps.timed("a pod starts, asks and ends"):
        record = ask_once(models, images.baton, prompt="Who are you?", max_tokens=40)

    steps.say(f"served by {record.prefill} and {record.decode}:{record.text}")
    assert record.problem == ""
    assert record.first is not None
    steps.say(
        f"{record.pieces} pieces, the first after {record.first - record.started:.3f} s, "
        f"the last after {record.ended - record.started:.3f} s"
    )
    assert record.pieces == 40
    assert PREFILL in record.prefill
    assert DECODE in record.decode


def test_both_roles_grow_while_requests_run(models: Namespace, images: Images, steps: Steps) -> None:
    with keep_asking(models, images.baton) as load:
        for role in ("decode", "prefill"):
            new = f"dsv4-0-{role}-1-0"
            with steps.timed(f"{role} to 2 replicas, until Ready"):
                scale(models, role, 2)
                wait_ready(models, new)
            with steps.timed(f"until {new} has served a chat"):
                load.wait_for_more(1, by=new, side=role)
        check_all_right(load.finish(), steps)


def test_both_roles_shrink_while_requests_run(models: Namespace, images: Images, steps: Steps) -> None:
    with keep_asking(models, images.baton) as load:
        decodes = models.pods(name=MODEL, role="decode")
        models.until(lambda: all(is_busy(models, pod) for pod in decodes), "every decode has running chats")
        before = len(load.records())
        gone = {role: shrink(models, steps, role) for role in ("decode", "prefill")}
        load.wait_for_more(STREAMS)
        records = load.finish()
        check_all_right(records, steps)
    last = [record for record in records[before:] if gone["decode"] in record.decode]
    steps.say(f"{len(last)} chats ended on {gone['decode']} after it was told to go")
    assert last
    assert set(models.pods(name=MODEL)) == {PREFILL, DECODE}
    models.wait_available(MODEL, patience=PATIENCE)


def is_busy(models: Namespace, pod: str) -> bool:
    return any(engine["running"] for engine in states(models, pod))


def shrink(models: Namespace, steps: Steps, role: str) -> str:
    """Scale a role to one replica and return its pod that went."""
    before = set(models.pods(name=MODEL, role=role))
    with steps.timed(f"{role} to 1 replica, until the other has drained"):
        scale(models, role, 1)
        models.until(lambda: len(models.pods(name=MODEL, role=role)) == 1, f"a {role} goes")
        (gone,) = before - set(models.pods(name=MODEL, role=role))
        models.wait_for("delete", f"pod/{gone}", patience=PATIENCE)
    return gone


def test_no_engine_holds_kv_afterwards(models: Namespace, steps: Steps) -> None:
    for pod in models.pods(name=MODEL):
        engines = states(models, pod)
        kv = [engine["kv"] for engine in engines]
        errors = [entry["errors"] for entry in kv if any(entry["errors"].values())]
        steps.say(f"{pod}: {sum(entry['pulled'] for entry in kv)} hand-overs pulled, {errors or 'no'} errors")
        assert len(engines) == ROLES[pod.split("-")[2]]
        assert errors == []
        assert [entry for entry in kv if entry["held"] or entry["blocks_used"]] == []


def test_a_deleted_pod_is_replaced(models: Namespace, images: Images, steps: Steps) -> None:
    before = models.get("pod", DECODE)["metadata"]["uid"]
    with steps.timed("a deleted decode pod is replaced and Ready"):
        models.run("delete", "pod", DECODE, deadline=PATIENCE)
        wait_ready(models, DECODE)

    assert models.get("pod", DECODE)["metadata"]["uid"] != before
    models.wait_available(MODEL, patience=PATIENCE)
    check_all_right([ask_once(models, images.baton, prompt="Are you back?", max_tokens=8)], steps)


def wait_ready(models: Namespace, pod: str) -> None:
    models.wait_for("create", f"pod/{pod}", patience=PATIENCE)
    models.wait_for("condition=Ready", f"pod/{pod}", patience=PATIENCE)


def test_operator_and_router_restart_while_requests_run(models: Namespace, images: Images, steps: Steps) -> None:
    before = uids(models)
    with keep_asking(models, images.baton) as load:
        for name in ("operator", "router"):
            with steps.timed(f"restart of the {name}"):
                roll(models, f"deployment/baton-{name}")
            load.wait_for_more(STREAMS)
        check_all_right(load.finish(), steps)

    assert uids(models) == before


def roll(models: Namespace, deployment: str) -> None:
    where = ("--namespace", NAMESPACE)
    models.kubectl.run("rollout", "restart", deployment, *where)
    models.kubectl.run("rollout", "status", deployment, *where, deadline=PATIENCE)


def test_without_the_right_to_create_pods_the_status_says_so(
    installation: Installation, models: Namespace, steps: Steps
) -> None:
    rules = installation.get("clusterrole", "baton-operator")["rules"]
    less = [
        rule | {"verbs": [verb for verb in rule["verbs"] if verb != "create"]} if "pods" in rule["resources"] else rule
        for rule in rules
    ]
    assert less != rules

    def is_told() -> bool:
        told = models.condition("modelserving", MODEL, "Reconciled")
        return told.get("status") == "False" and "forbidden" in told["message"]

    installation.merge("clusterrole", "baton-operator", {"rules": less})
    try:
        with steps.timed("the status says what is forbidden"):
            models.run("delete", "pod", DECODE, deadline=PATIENCE)
            models.until(is_told, "the status says what is forbidden", patience=PATIENCE)
        steps.say(models.condition("modelserving", MODEL, "Reconciled")["message"])
        assert set(models.pods(name=MODEL)) == {PREFILL}
    finally:
        installation.merge("clusterrole", "baton-operator", {"rules": rules})
    with steps.timed("with the right again, the pod is there and Ready"):
        wait_ready(models, DECODE)
        models.wait_available(MODEL, patience=PATIENCE)


def test_an_upgrade_leaves_requests_and_engines_alone(
    installation: Installation, models: Namespace, images: Images, steps: Steps
) -> None:
    before = uids(models)
    with keep_asking(models, images.baton) as load:
        with steps.timed("helm upgrade with other values"):
            installation.install(*values(images, "operator.logLevel=debug", "router.logLevel=debug"))
        load.wait_for_more(STREAMS)
        check_all_right(load.finish(), steps)

    assert uids(models) == before


def test_uninstalling_leaves_the_users_objects_and_their_engines(
    installation: Installation, models: Namespace, steps: Steps
) -> None:
    before = uids(models)
    with steps.timed("helm uninstall"):
        installation.uninstall()

    assert uids(models) == before
    for pod in (PREFILL, DECODE):
        assert sorted(ranks(look_inside(models, pod))) == list(range(ROLES[pod.split("-")[2]]))
    steps.say(f"still there: {', '.join(sorted(before))}")
