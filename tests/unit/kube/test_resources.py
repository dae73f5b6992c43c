from __future__ import annotations

from baton.kube import resources
from baton.kube.types import Resource


def test_baton_s_own_kinds_are_in_their_groups() -> None:
    assert (
        resources.MODEL_SERVINGS.path("ns") == "/apis/workload.serving.volcano.sh/v1alpha1/namespaces/ns/modelservings"
    )
    assert resources.MODEL_ROUTES.api_version == "networking.serving.volcano.sh/v1alpha1"
    assert resources.MODEL_SERVERS.api_version == resources.MODEL_ROUTES.api_version


def test_no_two_resources_share_a_path() -> None:
    named = [value for value in vars(resources).values() if isinstance(value, Resource)]
    assert len({resource.path() for resource in named}) == len(named) > 0
