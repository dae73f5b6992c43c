from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from baton.api.admission import check_route, check_server, check_serving
from baton.api.problems import Severity
from baton.api.route import ModelRoute
from baton.api.server import ModelServer
from baton.api.serving import ModelServing

if TYPE_CHECKING:
    from baton.api.meta import JsonObject
    from baton.api.problems import Problem

PODS = {"spec": {"containers": [{"name": "engine", "image": "vllm:1"}]}}
RAW = {"name": "prefill", "workerReplicas": 0, "entryTemplate": PODS}
TARGETS = [{"modelServerName": "s"}]


def serving(*roles: JsonObject, name: str = "ms", template: JsonObject | None = None, **spec: Any) -> ModelServing:
    document = {"template": {"roles": list(roles) or [RAW], **(template or {})}, **spec}
    return ModelServing.read({"metadata": {"name": name}, "spec": document}, strict=True)


def route(*rules: JsonObject, **spec: Any) -> ModelRoute:
    document = {"modelName": "m", "rules": list(rules) or [{"targetModels": TARGETS}], **spec}
    return ModelRoute.read({"metadata": {"name": "r"}, "spec": document}, strict=True)


def server(selector: JsonObject | None = None, **spec: Any) -> ModelServer:
    document = {
        "inferenceEngine": "vLLM",
        "workloadPort": {"port": 8000},
        "workloadSelector": selector or {"matchLabels": {"app": "engine"}},
        **spec,
    }
    return ModelServer.read({"metadata": {"name": "s"}, "spec": document}, strict=True)


def pd_group(**fields: Any) -> JsonObject:
    return {"groupKey": "a/group", "prefillLabels": {"role": "prefill"}, "decodeLabels": {"role": "decode"}, **fields}


def errors(found: list[Problem]) -> list[str]:
    return [str(problem) for problem in found if problem.severity is Severity.ERROR]


def warnings(found: list[Problem]) -> list[str]:
    return [str(problem) for problem in found if problem.severity is Severity.WARNING]


def test_good_objects_have_no_problems() -> None:
    typed = {"name": "decode", "replicas": 2, "engine": {"parallel": {"data": 16}}}

    assert check_serving(serving(RAW, typed)) == []
    assert check_route(route()) == []
    assert check_server(server()) == []


@pytest.mark.parametrize("name", ["", "1st", "Big", "a.b", "a-"])
def test_a_serving_needs_a_name_that_services_can_have(name: str) -> None:
    (error,) = errors(check_serving(serving(name=name)))

    assert error.startswith(f"metadata.name: {name!r} should begin with a lower-case letter")


def test_a_name_may_be_as_long_as_the_names_made_of_it_allow() -> None:
    suffix = len("-10-prefill-1-0")

    assert check_serving(serving(name="a" * (63 - suffix), replicas=10)) == []
    (error,) = errors(check_serving(serving(name="a" * (64 - suffix), replicas=10)))
    assert "64 characters of 63 allowed" in error


@pytest.mark.parametrize("name", ["Prefill", "1st"])
def test_a_role_needs_a_name_that_services_can_have(name: str) -> None:
    (error,) = errors(check_serving(serving({**RAW, "name": name})))

    assert error.startswith(f"spec.template.roles[0].name: {name!r} should begin with")


def test_roles_need_unique_names() -> None:
    assert errors(check_serving(serving(RAW, RAW))) == [
        "spec.template.roles[1].name: 'prefill' is the name of an earlier role; roles need unique names"
    ]


def test_a_role_without_a_typed_engine_needs_pods() -> None:
    assert errors(check_serving(serving({"name": "prefill"}))) == [
        "spec.template.roles[0].entryTemplate: is required without a typed engine",
        "spec.template.roles[0].workerReplicas: is required without a typed engine; 0 for roles of one pod",
    ]


@pytest.mark.parametrize("place", ["shared", "own"])
def test_a_typed_engine_makes_the_pods_of_a_role(place: str) -> None:
    role = {"name": "prefill", "entryTemplate": {"spec": {"nodeSelector": {"a": "b"}}}}
    engine: JsonObject = {"engine": {}}

    made = serving(role, template=engine) if place == "shared" else serving(role | engine)

    assert check_serving(made) == []


def test_workers_need_a_template() -> None:
    assert errors(check_serving(serving({**RAW, "workerReplicas": 1}))) == [
        "spec.template.roles[0].workerTemplate: is required when workerReplicas is above 0"
    ]
    assert check_serving(serving({**RAW, "workerReplicas": 1, "workerTemplate": PODS})) == []


@pytest.mark.parametrize("image", [None, "", "  ", "a b", " a", 1])
@pytest.mark.parametrize("template", ["entryTemplate", "workerTemplate"])
def test_containers_need_an_image_without_spaces(image: object, template: str) -> None:
    container = {"name": "a"} if image is None else {"name": "a", "image": image}

    (error,) = errors(check_serving(serving({**RAW, template: {"spec": {"containers": [container]}}})))

    assert error.startswith(f"spec.template.roles[0].{template}.spec.containers[0].image: ")


def test_init_containers_may_be_written_as_pods_allow() -> None:
    pods = {"spec": {**PODS["spec"], "initContainers": [{"name": "a", "image": "a b"}]}}

    assert check_serving(serving({**RAW, "entryTemplate": pods})) == []


def test_what_is_merged_over_a_rendered_container_needs_no_image() -> None:
    overlay = {"spec": {"containers": [{"name": "engine", "env": []}]}}

    assert check_serving(serving({"name": "prefill", "engine": {}, "entryTemplate": overlay})) == []


def test_a_pod_needs_a_container() -> None:
    assert errors(check_serving(serving({**RAW, "entryTemplate": {"spec": {"containers": []}}}))) == [
        "spec.template.roles[0].entryTemplate.spec.containers: is empty; a pod needs a container"
    ]


def test_labels_of_pods_are_checked_before_pods_are_made() -> None:
    labels = {"a b": "c", "ok": "no spaces", "prefix/ok": ""}

    found = errors(check_serving(serving({**RAW, "entryTemplate": {**PODS, "metadata": {"labels": labels}}})))

    assert [error.split(": ", 1)[0] for error in found] == ["spec.template.roles[0].entryTemplate.metadata.labels"] * 2


def test_replacing_a_label_of_the_controller_is_accepted_with_a_warning() -> None:
    metadata = {"labels": {"modelserving.volcano.sh/group-name": "group-0"}}

    found = check_serving(serving({**RAW, "entryTemplate": {**PODS, "metadata": metadata}}))

    assert errors(found) == []
    assert "modelserving.volcano.sh/group-name replaces a label" in warnings(found)[0]


@pytest.mark.parametrize("share", [0, "0%"])
def test_a_rolling_update_must_be_able_to_replace_something(share: int | str) -> None:
    strategy = {"rollingUpdateConfiguration": {"maxUnavailable": share}}

    (error,) = errors(check_serving(serving(rolloutStrategy=strategy, replicas=4)))

    assert error.startswith(
        "spec.rolloutStrategy.rollingUpdateConfiguration.maxUnavailable: maxUnavailable cannot be 0"
    )


def test_a_percentage_that_scaling_rounds_down_to_nothing_is_accepted_with_a_warning() -> None:
    strategy = {"rollingUpdateConfiguration": {"maxUnavailable": "50%"}}

    found = check_serving(serving(rolloutStrategy=strategy, replicas=1))

    assert errors(found) == []
    assert "50% of 1 rounds down to 0" in warnings(found)[0]
    assert check_serving(serving(rolloutStrategy=strategy, replicas=2)) == []
    assert check_serving(serving(rolloutStrategy=strategy, replicas=0)) == []


@pytest.mark.parametrize("surge", [1, "1%"])
def test_nothing_need_be_unavailable_where_others_stand_in(surge: int | str) -> None:
    strategy = {"rollingUpdateConfiguration": {"maxUnavailable": 0, "maxSurge": surge}}
    assert check_serving(serving(rolloutStrategy=strategy)) == []
    strategy = {"rollingUpdateConfiguration": {"maxUnavailable": 0, "maxSurge": 0}}
    (error,) = errors(check_serving(serving(rolloutStrategy=strategy)))
    assert "set 1 or more" in error


def test_a_role_rolling_update_has_its_limits_in_the_roles() -> None:
    strategy = {"type": "RoleRollingUpdate", "rollingUpdateConfiguration": {}}

    (error,) = errors(check_serving(serving(rolloutStrategy=strategy)))

    assert error.startswith("spec.rolloutStrategy.rollingUpdateConfiguration: is only for ServingGroupRollingUpdate")


def test_recreating_groups_would_undo_a_role_rolling_update() -> None:
    found = serving(rolloutStrategy={"type": "RoleRollingUpdate"}, recoveryPolicy="ServingGroupRecreate")

    (error,) = errors(check_serving(found))

    assert error.startswith("spec.recoveryPolicy: ")


@pytest.mark.parametrize("strategy", [None, {"type": "ServingGroupRollingUpdate"}])
def test_a_partition_of_a_role_needs_a_role_rolling_update(strategy: JsonObject | None) -> None:
    role = {**RAW, "partition": 1}
    (error,) = errors(check_serving(serving(role, rolloutStrategy=strategy)))

    assert error.startswith("spec.template.roles[0].partition: is only for RoleRollingUpdate")
    assert check_serving(serving(role, rolloutStrategy={"type": "RoleRollingUpdate"})) == []


@pytest.mark.parametrize(
    ("replicas", "share", "fault"),
    [(2, 0, "cannot be 0"), (2, 3, "above the role's 2 replicas"), (2, 2, None), (2, "50%", None), (0, 1, None)],
)
def test_a_role_rolling_update_may_take_down_from_one_to_all_replicas(
    replicas: int, share: int | str, fault: str | None
) -> None:
    role = {**RAW, "replicas": replicas, "maxUnavailable": share}

    found = errors(check_serving(serving(role, rolloutStrategy={"type": "RoleRollingUpdate"})))

    assert len(found) == (1 if fault else 0)
    assert all(str(fault) in error for error in found)
    assert check_serving(serving(role)) == []


@pytest.mark.parametrize(
    ("least", "fault"),
    [
        ({"decode": 1}, "minRoleReplicas.decode: there is no role 'decode'; roles are prefill"),
        ({"prefill": 3}, "minRoleReplicas.prefill: 3 should be between 0 and the role's replicas, 2"),
        ({"prefill": -1}, "minRoleReplicas.prefill: -1 should be between 0 and the role's replicas, 2"),
        ({"prefill": 2}, None),
        ({"prefill": 0}, None),
    ],
)
def test_a_gang_is_made_of_replicas_that_exist(least: dict[str, int], fault: str | None) -> None:
    found = serving({**RAW, "replicas": 2}, template={"gangPolicy": {"minRoleReplicas": least}})

    assert errors(check_serving(found)) == ([f"spec.template.gangPolicy.{fault}"] if fault else [])


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ({"minRoleReplicas": {"prefill": 1}}, None, "spec.template.gangPolicy: is required once set"),
        (
            {"minRoleReplicas": {"prefill": 1}},
            {"minRoleReplicas": {"prefill": 0}},
            "spec.template.gangPolicy.minRoleReplicas: is immutable, it is {'prefill': 1}",
        ),
        ({"minRoleReplicas": {"prefill": 1}}, {}, None),
        ({}, {"minRoleReplicas": {"prefill": 1}}, None),
        (None, {"minRoleReplicas": {"prefill": 1}}, None),
    ],
)
def test_a_gang_stays_what_it_is(before: JsonObject | None, after: JsonObject | None, fault: str | None) -> None:
    old = serving(template={"gangPolicy": before} if before is not None else None)
    new = serving(template={"gangPolicy": after} if after is not None else None)

    assert errors(check_serving(new, old)) == ([fault] if fault else [])


def test_a_route_needs_a_model_or_an_adapter() -> None:
    rules = [{"targetModels": TARGETS}]
    nameless = ModelRoute.read({"spec": {"rules": rules}})

    assert errors(check_route(nameless)) == ["spec: set modelName, loraAdapters or both"]
    assert check_route(ModelRoute.read({"spec": {"rules": rules, "loraAdapters": ["a"]}})) == []
    assert errors(check_route(route(loraAdapters=["a", ""]))) == [
        "spec.loraAdapters[1]: is an empty string; remove it or name an adapter"
    ]


def test_a_route_keeps_its_model() -> None:
    assert errors(check_route(route(modelName="b"), route(modelName="a"))) == [
        "spec.modelName: is immutable, it is 'a'; create another ModelRoute"
    ]
    assert check_route(route(), route()) == []


@pytest.mark.parametrize("target", [{}, {"modelServerName": "a", "modelServingName": "b"}])
def test_a_target_has_one_name(target: JsonObject) -> None:
    (error,) = errors(check_route(route({"targetModels": [*TARGETS, target]})))

    assert error.startswith("spec.rules[0].targetModels[1]: set exactly one of modelServerName, modelServingName and")


def test_the_weights_of_a_rule_leave_somewhere_to_go() -> None:
    first = {"modelServerName": "a", "weight": 0}

    assert errors(check_route(route({"targetModels": [first, first]}))) == [
        "spec.rules[0].targetModels: all weights are 0, so no request goes anywhere; set one above 0"
    ]
    assert check_route(route({"targetModels": [first, {"modelServingName": "b", "weight": 1}]})) == []


@pytest.mark.parametrize("regex", ["(", "a{99999999999999}"])
def test_regular_expressions_compile(regex: str) -> None:
    match = {"uri": {"regex": regex}, "headers": {"x": {"regex": regex}, "y": {"regex": "^ok$"}}}

    found = errors(check_route(route({"targetModels": TARGETS, "modelMatch": match})))

    assert [error.split(": ", 1)[0] for error in found] == [
        "spec.rules[0].modelMatch.uri.regex",
        "spec.rules[0].modelMatch.headers.x.regex",
    ]


def test_a_match_that_is_ignored_is_accepted_with_a_warning() -> None:
    match = {"uri": {"exact": "/a", "regex": "b"}}

    found = check_route(route({"targetModels": TARGETS, "modelMatch": match}))

    assert [str(problem) for problem in found] == warnings(found)
    assert warnings(found) == [
        "spec.rules[0].modelMatch.uri: exact decides and regex is ignored; set only one",
    ]


def test_external_providers_have_no_adapters() -> None:
    rule = {"targetModels": [{"externalModelProviderName": "a"}]}

    assert check_route(route(rule)) == []
    (error,) = errors(check_route(route(rule, loraAdapters=["a"])))
    assert error.startswith("spec.rules[0].targetModels[0].externalModelProviderName: ")


def test_labels_that_select_pods_are_labels() -> None:
    group = pd_group(groupKey="a b", prefillLabels={"-": "x"}, decodeLabels={"x": "-"})

    paths = [error.split(": ", 1)[0] for error in errors(check_route(route(pdGroup=group)))]
    selected = errors(check_server(server({"matchLabels": {"a": "b c"}, "pdGroup": group})))

    assert paths == ["spec.pdGroup.groupKey", "spec.pdGroup.prefillLabels", "spec.pdGroup.decodeLabels"]
    assert [error.split(": ", 1)[0] for error in selected] == [
        "spec.workloadSelector.matchLabels",
        *(path.replace("spec.", "spec.workloadSelector.") for path in paths),
    ]


def test_prefill_and_decode_that_cannot_be_told_apart_are_accepted_with_a_warning() -> None:
    found = check_route(route(pdGroup=pd_group(decodeLabels={"role": "prefill"})))

    assert errors(found) == []
    assert warnings(found)[0].startswith("spec.pdGroup: prefillLabels and decodeLabels are equal")


@pytest.mark.parametrize(
    ("engine", "connector", "warned"), [("vLLM", None, True), ("vLLM", {}, False), ("SGLang", None, False)]
)
def test_a_pair_without_a_connector_is_accepted_with_a_warning(
    engine: str, connector: JsonObject | None, warned: bool
) -> None:
    spec = {} if connector is None else {"kvConnector": connector}
    selector = {"matchLabels": {"a": "b"}, "pdGroup": pd_group()}

    found = check_server(server(selector, inferenceEngine=engine, **spec))

    assert errors(found) == []
    assert any(warning.startswith("spec.kvConnector: ") for warning in warnings(found)) is warned


@pytest.mark.parametrize(("timeout", "refused"), [("0s", True), ("0h0.0ms", True), ("1ns", False)])
def test_a_time_limit_leaves_time(timeout: str, refused: bool) -> None:
    policy = {"timeout": timeout}

    for found in (check_route(route(trafficPolicy=policy)), check_server(server(trafficPolicy=policy))):
        assert bool(errors(found)) is refused
