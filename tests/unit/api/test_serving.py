from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from baton.api.meta import problems_of
from baton.api.serving import PodTemplate


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"containers": []},
        {"containers": [{"name": "a", "env": None, "ports": None}], "initContainers": None},
        {
            "containers": [{"name": "a", "env": [{"name": "X", "value": "1"}], "ports": [{"containerPort": 80}]}],
            "initContainers": [{"name": "a", "env": []}],
            "somethingNew": {"of": "a later Kubernetes"},
        },
    ],
)
def test_a_pod_spec_is_taken_as_it_is(spec: dict[str, Any]) -> None:
    assert PodTemplate.model_validate({"spec": spec}).spec == spec


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"containers": None}, "containers should be a list of objects"),
        ({"containers": ["a"]}, "containers should be a list of objects"),
        ({"containers": [{}]}, "each of containers needs a name of its own"),
        ({"containers": [{"name": "a"}, {"name": "a"}]}, "each of containers needs a name of its own"),
        ({"initContainers": "a"}, "initContainers should be a list of objects"),
        ({"containers": [{"name": "a", "env": "X=1"}]}, "env should be a list of objects"),
        ({"containers": [{"name": "a", "env": [{"value": "1"}]}]}, "each of env needs a name"),
        ({"initContainers": [{"env": [{"name": ["X"]}]}]}, "each of env needs a name"),
        ({"containers": [{"name": "a", "ports": [80]}]}, "ports should be a list of objects"),
    ],
)
def test_what_could_not_be_read_is_refused(spec: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as raised:
        PodTemplate.model_validate({"spec": spec})
    assert problems_of(raised.value) == [f"spec: {problem}"]
