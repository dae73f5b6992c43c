from __future__ import annotations

from typing import Any

import pytest

from baton.api.serving import PodTemplate, TemplateMeta
from baton.rendering.overlay import is_well_formed, overlay

RENDERED = {
    "containers": [
        {
            "name": "engine",
            "image": "engine:1",
            "env": [{"name": "A", "value": "1"}],
            "ports": [{"name": "api", "containerPort": 7100}],
            "startupProbe": {"periodSeconds": 10, "exec": {"command": ["x"]}},
        }
    ],
    "volumes": [{"name": "model", "hostPath": {"path": "/m"}}],
}


def _spec(**own: Any) -> dict[str, Any]:
    return overlay(PodTemplate(spec=RENDERED), PodTemplate(spec=own)).spec


def test_without_a_template_of_the_users_nothing_changes() -> None:
    assert overlay(PodTemplate(spec=RENDERED), None).spec == RENDERED


def test_fields_are_added_and_replaced() -> None:
    spec = _spec(nodeSelector={"env": "prod"}, tolerations=[{"key": "npu"}])

    assert spec == RENDERED | {"nodeSelector": {"env": "prod"}, "tolerations": [{"key": "npu"}]}


def test_containers_are_merged_by_name() -> None:
    engine = {
        "name": "engine",
        "env": [{"name": "A", "value": "2"}, {"name": "B"}],
        "startupProbe": {"periodSeconds": 5},
    }
    spec = _spec(containers=[{"name": "sidecar"}, engine])

    assert spec["containers"] == [
        {
            "name": "engine",
            "image": "engine:1",
            "env": [{"name": "A", "value": "2"}, {"name": "B"}],
            "ports": [{"name": "api", "containerPort": 7100}],
            "startupProbe": {"periodSeconds": 5, "exec": {"command": ["x"]}},
        },
        {"name": "sidecar"},
    ]


def test_volumes_are_replaced_whole() -> None:
    claim = {"name": "model", "persistentVolumeClaim": {"claimName": "c"}}

    assert _spec(volumes=[claim, {"name": "more"}])["volumes"] == [claim, {"name": "more"}]


def test_null_removes() -> None:
    spec = _spec(containers=[{"name": "engine", "startupProbe": None}], volumes=None)

    assert "startupProbe" not in spec["containers"][0]
    assert "volumes" not in spec


def test_an_empty_list_adds_nothing_to_a_list_that_is_merged() -> None:
    assert _spec(containers=[], volumes=[]) == RENDERED


def test_labels_and_annotations_of_the_user_win() -> None:
    rendered = PodTemplate(metadata=TemplateMeta(labels={"a": "1", "b": "1"}, annotations={"c": "1"}))
    own = PodTemplate(metadata=TemplateMeta(labels={"b": "2"}, annotations={"d": "2"}))

    merged = overlay(rendered, own).metadata

    assert (merged.labels, merged.annotations) == ({"a": "1", "b": "2"}, {"c": "1", "d": "2"})


@pytest.mark.parametrize(
    ("spec", "well_formed"),
    [
        ({}, True),
        ({"volumes": None, "nodeSelector": {"env": "prod"}}, True),
        ({"volumes": {}}, False),
        ({"volumes": ["x"]}, False),
        ({"initContainers": [{"image": "x"}]}, False),
        ({"containers": [{"name": "x", "env": [{"value": "1"}]}]}, False),
        ({"containers": [{"name": "x", "ports": [{"containerPort": 1}]}]}, True),
    ],
)
def test_lists_that_are_merged_need_their_keys(spec: dict[str, Any], *, well_formed: bool) -> None:
    assert is_well_formed(spec) is well_formed
