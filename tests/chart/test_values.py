from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import baton
from chart.rendering import CHART, RELEASE
from helm import HelmError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helm import Helm

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def paths_of(values: dict[str, Any], schema: dict[str, Any], *, at: str = "") -> Iterator[tuple[str, bool]]:
    """Yield the path of each key that the schema names, and whether the values have it."""
    for key, inner in schema.get("properties", {}).items():
        path = f"{at}.{key}"
        yield path, key in values
        yield from paths_of(values.get(key) or {}, inner, at=path)


def test_the_chart_has_the_version_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert (chart["version"], chart["appVersion"]) == (baton.__version__, baton.__version__)


def test_every_setting_of_the_schema_has_a_default() -> None:
    assert {path for path, has_default in paths_of(VALUES, SCHEMA) if not has_default} == {".global"}


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("operator.workers=2", "additional properties 'workers' not allowed"),
        ("router.drainTimeout=3", "additional properties 'drainTimeout' not allowed"),
        ("routers.replicas=3", "additional properties 'routers' not allowed"),
        ("router.replicas=0", "at '/router/replicas': minimum: got 0, want 1"),
        ("operator.replicas=0", "at '/operator/replicas': minimum: got 0, want 1"),
        ("router.namespaces={Team}", "at '/router/namespaces/0': 'Team' does not match"),
        ("router.namespaces={team,team}", "items at 0 and 1 are equal"),
        ("router.extraArgs={-v}", "at '/router/extraArgs/0': '-v' does not match"),
        ("router.service.type=ExternalName", "at '/router/service/type': value must be one of"),
        ("router.service.port=0", "at '/router/service/port': minimum"),
        ("router.podDisruptionBudget.maxUnavailable=some", "at '/router/podDisruptionBudget/maxUnavailable'"),
        ("operator.logLevel=chatty", "at '/operator/logLevel': value must be one of"),
        ("image.digest=latest", "at '/image/digest': 'latest' does not match"),
        ("image.repository=", "at '/image/repository': minLength"),
        ("webhook.failurePolicy=Sometimes", "at '/webhook/failurePolicy': value must be one of 'Ignore', 'Fail'"),
        ("webhook.timeoutSeconds=31", "at '/webhook/timeoutSeconds': maximum"),
        ("webhook.port=443", "at '/webhook/port': minimum"),
        ("webhook.certificate.source=file", "at '/webhook/certificate/source': value must be one of"),
        ("webhook.certificate.issuerRef.kind=Issuer", "missing property 'name'"),
    ],
)
def test_a_wrong_value_is_refused_by_its_path(helm: Helm, setting: str, complaint: str) -> None:
    with pytest.raises(HelmError) as refused:
        helm.run("template", RELEASE, str(CHART), "--set", setting)

    assert complaint in str(refused.value)


def test_a_parent_chart_may_pass_its_globals(helm: Helm) -> None:
    helm.run("template", RELEASE, str(CHART), "--set", "global.anything=1")
