from __future__ import annotations

import textwrap

import pytest

from baton.api.documents import DocumentError, read_document, read_documents
from baton.api.route import ModelRoute
from baton.api.serving import ModelServing

ROUTE = """
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelRoute
metadata: {name: r}
spec: {modelName: m, rules: []}
"""
SERVING = """
apiVersion: workload.serving.volcano.sh/v1alpha1
kind: ModelServing
metadata: {name: s}
spec:
  template:
    roles: [{name: prefill, engine: {}}]
"""
CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\n"


def refusal(text: str, *, strict: bool = True) -> list[str]:
    with pytest.raises(DocumentError) as refused:
        read_documents(text, strict=strict)
    assert str(refused.value) == "\n".join(str(problem) for problem in refused.value.problems)
    return [str(problem) for problem in refused.value.problems]


def test_a_text_holds_objects_of_several_kinds_in_order() -> None:
    found = read_documents(f"---\n{SERVING}---\n{CONFIG_MAP}---\n{ROUTE}")

    assert [type(each) for each in found] == [ModelServing, ModelRoute]
    assert [each.metadata.name for each in found] == ["s", "r"]


def test_a_text_without_objects_of_ours_holds_none() -> None:
    assert read_documents("") == read_documents(CONFIG_MAP) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "document: is no YAML: "),
        ("just words", "document: should be an object with apiVersion, kind, metadata and spec"),
        ("kind: ModelRoute", "apiVersion: is required"),
        ("apiVersion: workload.serving.volcano.sh/v1alpha1", "kind: is required"),
        (
            "{apiVersion: v1, kind: ModelServing}",
            "apiVersion: of a ModelServing should be workload.serving.volcano.sh/v1alpha1, not 'v1'",
        ),
        (
            "{apiVersion: workload.serving.volcano.sh/v1alpha1, kind: modelServings}",
            "kind: 'modelServings' is no kind of Baton; did you mean ModelServing?",
        ),
        (
            "{apiVersion: workload.serving.volcano.sh/v1alpha1, kind: Pod}",
            "kind: 'Pod' is no kind of Baton; there are ModelServing, ModelRoute, ModelServer",
        ),
    ],
)
def test_what_nobody_can_place_is_refused(text: str, problem: str) -> None:
    (found,) = refusal(text)

    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("engine", "problem"),
    [
        ("{modelz: {}}", ".modelz: is no field of this object; did you mean model?"),
        ("{model: {served_name: a}}", ".model.served_name: is no field of this object; did you mean servedName?"),
        ("{resources: {zzz: 1}}", ".resources.zzz: is no field of this object; there are cpu, memory, sharedMemory"),
        ("{maxNumSeqs: '4'}", ".maxNumSeqs: should be a valid integer, not '4'"),
        ("{kind: vllm}", ".kind: should be 'vLLM-Ascend' or 'vLLM', not 'vllm'"),
        ("{maxNumSeqs: 0}", ".maxNumSeqs: should be greater than or equal to 1, not 0"),
        ("1", ": should be an object, not 1"),
    ],
)
def test_a_wrong_field_is_named_together_with_what_was_meant(engine: str, problem: str) -> None:
    text = SERVING.replace("engine: {}", f"engine: {engine}")

    assert refusal(text) == [f"spec.template.roles[0].engine{problem}"]


def test_all_faults_of_a_document_are_said_at_once() -> None:
    text = ROUTE.replace("rules: []", "rulez: [], kvConnector: {type: x}")

    assert [problem.split(":", 1)[0] for problem in refusal(text)] == [
        "spec.rules",
        "spec.kvConnector.type",
        "spec.rulez",
    ]


def test_fields_of_pods_and_free_objects_are_not_ours_to_refuse() -> None:
    text = textwrap.dedent(
        """
        apiVersion: workload.serving.volcano.sh/v1alpha1
        kind: ModelServing
        metadata: {name: s, labels: {any: thing}}
        spec:
          template:
            engine: {flags: {any-flag: {deep: null}}}
            roles:
            - name: prefill
              entryTemplate: {spec: {anything: 1, containers: [{name: a, anything: 1}]}}
        """
    )

    (found,) = read_documents(text, strict=True)

    assert isinstance(found, ModelServing)
    assert found.document()["spec"]["template"]["engine"]["flags"] == {"any-flag": {"deep": None}}


def test_without_strictness_unknown_fields_are_passed_over_as_an_api_server_would() -> None:
    found = read_document(
        {
            "apiVersion": "networking.serving.volcano.sh/v1alpha1",
            "kind": "ModelRoute",
            "spec": {"modelName": "m", "rules": [], "later": 1},
        }
    )

    assert isinstance(found, ModelRoute)
    assert "later" not in found.document()["spec"]
