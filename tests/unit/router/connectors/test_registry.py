from __future__ import annotations

import re
from pathlib import Path

from baton.api.traffic import KVConnectorType
from baton.router import connectors
from baton.router.connectors.registry import CONNECTORS

ROUTER = Path(connectors.__file__).parents[1]


def test_every_kind_of_hand_over_has_its_connector() -> None:
    assert set(CONNECTORS) == set(KVConnectorType)


def test_only_the_registry_knows_connectors_by_name() -> None:
    """So adding one needs its module, its kind and its line in the registry."""
    classes = [
        name
        for path in (ROUTER / "connectors").glob("*.py")
        for name in re.findall(r"^class (\w+Connector)\b", path.read_text(), re.MULTILINE)
    ]
    users = {
        (path.name, name)
        for path in ROUTER.rglob("*.py")
        for name in classes
        if re.search(rf"import .*\b{name}\b", path.read_text())
    }

    assert len(classes) == 5
    assert users == {("registry.py", name) for name in classes}
