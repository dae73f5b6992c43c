"""Whatever stands in the place of a field, an object is refused or acted upon: nothing crashes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.api.admission import check_route, check_server
from baton.api.route import ModelRoute
from baton.api.server import ModelServer
from baton.api.serving import ModelServing
from baton.controllers.desire import desired_of
from baton.controllers.projection import kind_projection
from baton.planning.model import Observed
from baton.planning.plan import plan
from baton.routing.compile import compile_route
from builders import serving
from rendering_builders import pair

if TYPE_CHECKING:
    from collections.abc import Iterator

JsonObject = dict[str, Any]
Path = tuple[str | int, ...]

POD = {
    "containers": [
        {
            "name": "engine",
            "image": "engine:1",
            "env": [{"name": "A", "value": "b"}],
            "ports": [{"containerPort": 8000}],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            "resources": {"requests": {"cpu": "1"}},
        }
    ],
    "initContainers": [{"name": "first", "image": "engine:1", "env": []}],
    "volumes": [{"name": "v", "configMap": {"name": "c"}}],
}
TEMPLATES: JsonObject = {
    "entryTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": POD},
    "workerTemplate": {"spec": POD},
}
RAW = serving().role("prefill", **TEMPLATES, workerReplicas=1).role("decode", **TEMPLATES).document()
TYPED = pair().document() | {"metadata": {"name": "demo", "uid": "u", "generation": 1}}
TYPED["spec"]["template"]["roles"][0] |= TEMPLATES
ROUTE = {
    "metadata": {"name": "route", "namespace": "default", "uid": "u"},
    "spec": {
        "modelName": "m",
        "rules": [
            {
                "modelMatch": {"uri": {"regex": "a"}, "headers": {"h": {"exact": "b"}}, "body": {"model": "m"}},
                "targetModels": [{"modelServingName": "demo", "weight": 1}],
            }
        ],
        "pdGroup": {"groupKey": "g", "prefillLabels": {"r": "p"}, "decodeLabels": {"r": "d"}},
        "kvConnector": {"type": "nixl"},
        "trafficPolicy": {"timeout": "1s", "retry": {"attempts": 1, "retryInterval": "1s"}},
        "workloadPort": {"port": 8000},
    },
}
SERVER = {
    "metadata": {"name": "server", "namespace": "default", "uid": "u"},
    "spec": {
        "inferenceEngine": "vLLM",
        "workloadSelector": {"matchLabels": {"app": "x"}},
        "workloadPort": {"port": 8000, "protocol": "http"},
    },
}

VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, "x", "", 0, -1, 7, True, [], {}, [None], ["x"], [7], [{}], {"a": 1}, 10**12]
)


def paths_of(value: object, path: Path = ()) -> Iterator[Path]:
    """Yield the way to every part."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, part in value.items():
            yield from paths_of(part, (*path, key))
    if isinstance(value, list):
        for index, part in enumerate(value):
            yield from paths_of(part, (*path, index))


def replaced(value: Any, path: Path, new: object) -> Any:
    """Return a copy with another part at the end of a path."""
    if not path:
        return new
    first, *rest = path
    part = replaced(value[first], tuple(rest), new)
    if isinstance(value, dict):
        return {**value, first: part}
    return [part if index == first else present for index, present in enumerate(value)]


@pytest.mark.parametrize("written", [RAW, TYPED], ids=["raw", "typed"])
@given(data=st.data())
def test_a_model_serving_is_refused_or_planned_and_routed(written: JsonObject, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(list(paths_of(written["spec"]))))
    document = {**written, "spec": replaced(written["spec"], path, data.draw(VALUES))}
    record = kind_projection(ModelServing)(document)
    assert (record.value is None) is bool(record.problems)
    if record.value is None:
        return
    desired, _ = desired_of(record.value)
    if desired is not None and record.value.spec.replicas < 100:
        plan(desired, Observed(now=datetime(2026, 1, 1, tzinfo=UTC)))
    route = ModelRoute.read(ROUTE)
    compile_route(route, servers={}, servings={"demo": record.value})


@given(data=st.data())
def test_a_model_route_is_refused_or_compiled(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(list(paths_of(ROUTE["spec"]))))
    record = kind_projection(ModelRoute, check_route)(
        {**ROUTE, "spec": replaced(ROUTE["spec"], path, data.draw(VALUES))}
    )
    if record.value is not None:
        compile_route(record.value, servers={}, servings={"demo": ModelServing.read(RAW)})


@given(data=st.data())
def test_a_model_server_is_refused_or_used(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(list(paths_of(SERVER["spec"]))))
    document = {**SERVER, "spec": replaced(SERVER["spec"], path, data.draw(VALUES))}
    record = kind_projection(ModelServer, check_server)(document)
    if record.value is not None:
        target = [{"targetModels": [{"modelServerName": "server"}]}]
        route = ModelRoute.read({**ROUTE, "spec": {"modelName": "m", "rules": target}})
        compile_route(route, servers={"server": record.value}, servings={})
