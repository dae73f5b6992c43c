from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from baton.manager.admission_review import ReviewError, answer
from builders import pod_template, serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from builders import ServingBuilder

JsonObject = dict[str, Any]

GOOD = serving().role("prefill").role("decode")
WITHOUT_IMAGE = GOOD.role("decode", entryTemplate=pod_template(""))
WITH_WARNING = GOOD.role("decode", entryTemplate=pod_template(labels={"modelserving.volcano.sh/role": "mine"}))


def review(new: JsonObject | None, old: JsonObject | None = None, *, operation: str = "", kind: str = "") -> JsonObject:
    """Return the question that the API server asks when an object is created, or replaced if there is an old one."""
    about = new or old or {}
    group = about["apiVersion"].split("/")[0]
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "the-request",
            "operation": operation or ("UPDATE" if old else "CREATE"),
            "kind": {"group": group, "version": "v1alpha1", "kind": kind or about["kind"]},
            "name": about["metadata"]["name"],
            "object": new,
            "oldObject": old,
            "userInfo": {"username": "somebody"},
        },
    }


def response(*arguments: Any, **keywords: Any) -> JsonObject:
    answered = answer(review(*arguments, **keywords))
    assert (answered["apiVersion"], answered["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert answered["response"]["uid"] == "the-request"
    found: JsonObject = answered["response"]
    return found


def message(*arguments: Any, **keywords: Any) -> str:
    refused = response(*arguments, **keywords)
    assert not refused["allowed"]
    text: str = refused["status"]["message"]
    return text


def typed(**parallel: int) -> ServingBuilder:
    return serving().engine(image="engine:1", model={"path": "/models/m"}).typed_role("server", parallel=parallel)


def route(**spec: Any) -> JsonObject:
    return {
        "apiVersion": "networking.serving.volcano.sh/v1alpha1",
        "kind": "ModelRoute",
        "metadata": {"name": "route"},
        "spec": {"modelName": "m", "rules": [{"targetModels": [{"modelServerName": "s"}]}], **spec},
    }


def server(**labels: str) -> JsonObject:
    selector = {"matchLabels": labels}
    return {
        "apiVersion": "networking.serving.volcano.sh/v1alpha1",
        "kind": "ModelServer",
        "metadata": {"name": "server"},
        "spec": {"inferenceEngine": "vLLM", "workloadPort": {"port": 8000}, "workloadSelector": selector},
    }


@pytest.mark.parametrize("document", [GOOD.document(), route(), server(app="engine")])
def test_a_good_object_passes_in_silence(document: JsonObject) -> None:
    assert response(document) == {"uid": "the-request", "allowed": True}


def test_a_refusal_names_each_field_and_its_cure() -> None:
    document = WITHOUT_IMAGE.role("prefill", workers=1, workerTemplate=None).document()

    assert message(document) == (
        "validation failed:\n"
        "  - spec.template.roles[0].workerTemplate: is required when workerReplicas is above 0\n"
        "  - spec.template.roles[1].entryTemplate.spec.containers[0].image: '' should be an image name without spaces"
    )


def test_a_refusal_tells_programs_the_fields_too() -> None:
    status = response(WITHOUT_IMAGE.document())["status"]

    assert (status["status"], status["code"], status["reason"]) == ("Failure", 422, "Invalid")
    details = status["details"]
    assert (details["group"], details["kind"], details["name"]) == (
        "workload.serving.volcano.sh",
        "ModelServing",
        "demo",
    )
    (cause,) = details["causes"]
    assert cause["field"] == "spec.template.roles[1].entryTemplate.spec.containers[0].image"
    assert cause["message"] in status["message"]


def test_an_object_that_cannot_be_read_is_refused_by_field() -> None:
    document = GOOD.with_spec(replicas="many").document()

    assert "\n  - spec.replicas: " in message(document)


def test_what_the_typed_engine_cannot_render_is_refused() -> None:
    assert response(typed(tensor=8).document())["allowed"]
    refusal = message(typed(tensor=49).document())
    assert "spec.template.roles[0].engine.parallel.tensor: " in refusal
    assert "the 49 devices of a DP rank do not spread evenly over 4 nodes; " in refusal


def test_routes_and_servers_are_checked_too() -> None:
    assert "spec.trafficPolicy.timeout: is 0" in message(route(trafficPolicy={"timeout": "0s"}))
    assert "spec.workloadSelector.matchLabels" in message(server(app="no label"))


def test_fields_that_must_not_change_are_compared_with_the_old_object() -> None:
    assert "spec.modelName: is immutable, it is 'm'" in message(route(modelName="other"), route())
    gang = GOOD.document()
    gang["spec"]["template"]["gangPolicy"] = {"minRoleReplicas": {"prefill": 1}}
    assert "spec.template.gangPolicy: is required once set" in message(GOOD.document(), gang)


def test_a_bad_object_that_no_webhook_saw_can_be_mended() -> None:
    unreadable = GOOD.with_spec(replicas="many").document()

    assert response(GOOD.document(), unreadable)["allowed"]


def test_warnings_let_the_object_pass() -> None:
    warned = response(WITH_WARNING.document())

    assert warned["allowed"]
    (warning,) = warned["warnings"]
    assert warning.startswith("spec.template.roles[1].entryTemplate.metadata.labels: modelserving.volcano.sh/role")


def test_a_refusal_carries_the_warnings_but_does_not_repeat_them() -> None:
    refused = response(WITH_WARNING.role("prefill", entryTemplate=pod_template("")).document())

    assert len(refused["warnings"]) == 1
    assert "metadata.labels" not in refused["status"]["message"]


def test_a_warning_is_cut_to_what_the_api_server_passes_on() -> None:
    labels = {f"modelserving.volcano.sh/{'long' * 80}": "mine"}

    warnings = response(GOOD.role("decode", entryTemplate=pod_template(labels=labels)).document())["warnings"]

    assert [len(warning) for warning in warnings] == [256]
    assert warnings[0].endswith("…")


@pytest.mark.parametrize(
    "change",
    [
        lambda bad: bad.with_metadata(labels={"team": "a"}),
        lambda bad: bad.with_metadata(finalizers=[]),
        lambda bad: bad.status({"replicas": 1}),
    ],
)
def test_a_bad_object_stays_writable_apart_from_its_spec(change: Callable[[ServingBuilder], ServingBuilder]) -> None:
    assert response(change(WITHOUT_IMAGE).document(), WITHOUT_IMAGE.document()) == {
        "uid": "the-request",
        "allowed": True,
    }


def test_a_bad_object_stays_bad_when_its_spec_changes() -> None:
    assert "roles[1]" in message(WITHOUT_IMAGE.replicas(2).document(), WITHOUT_IMAGE.document())


def test_an_object_that_is_being_deleted_passes() -> None:
    leaving = WITHOUT_IMAGE.replicas(2).with_metadata(deletionTimestamp="2026-01-01T00:00:00Z")

    assert response(leaving.document(), WITHOUT_IMAGE.document())["allowed"]


def test_a_deletion_passes() -> None:
    assert response(None, WITHOUT_IMAGE.document(), operation="DELETE")["allowed"]


def test_a_foreign_kind_passes_with_a_remark() -> None:
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "demo"}, "spec": {"replicas": 2}}

    passed = response(scale)

    assert passed["allowed"]
    assert "'Scale' is not checked by Baton" in passed["warnings"][0]


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (lambda _: None, "document"),
        (lambda _: [], "document"),
        (lambda good: {**good, "apiVersion": "admission.k8s.io/v1beta1"}, "apiVersion"),
        (lambda good: {**good, "kind": "Pod"}, "kind"),
        (lambda good: {**good, "request": None}, "request"),
        (lambda good: {**good, "request": {**good["request"], "uid": ""}}, "request.uid"),
        (lambda good: {**good, "request": {**good["request"], "operation": "GUESS"}}, "request.operation"),
        (lambda good: {**good, "request": {**good["request"], "object": "text"}}, "request.object"),
    ],
)
def test_what_is_no_review_is_no_verdict(spoil: Callable[[JsonObject], Any], field: str) -> None:
    with pytest.raises(ReviewError, match=rf"^{field}: "):
        answer(spoil(review(GOOD.document())))


@pytest.mark.parametrize("metadata", [None, "text", {"deletionTimestamp": None}])
def test_odd_metadata_is_answered_all_the_same(metadata: Any) -> None:
    document = review(GOOD.document())
    document["request"]["object"]["metadata"] = metadata

    assert not answer(document)["response"]["allowed"]
