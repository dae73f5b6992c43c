from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from baton.api.meta import ApiModel, Duration, IntOrPercent, Kind, Quantity, field_path, problems_of


class Amounts(ApiModel):
    share: IntOrPercent = 1
    memory: Quantity | None = None
    timeout: Duration | None = None
    own_name: str = ""


class Sample(Kind):
    spec: Amounts = Amounts()


def faults(spec: dict[str, Any], *, strict: bool = False) -> list[str]:
    with pytest.raises(ValidationError) as refused:
        Sample.read({"spec": spec}, strict=strict)
    return problems_of(refused.value)


@pytest.mark.parametrize("share", [0, 7, "0%", "25%", "100%"])
def test_an_amount_is_a_count_or_a_percentage(share: int | str) -> None:
    assert Sample.read({"spec": {"share": share}}, strict=True).spec.share == share


@pytest.mark.parametrize("share", [-1, True, 1.5, "5", "101%", "-1%", "5%\n", None])
def test_other_amounts_are_refused_with_what_to_write(share: object) -> None:
    assert faults({"share": share}) == [
        'spec.share: should be a count of 0 or more, or a percentage from "0%" to "100%"'
    ]


@pytest.mark.parametrize(("given", "kept"), [(64, "64"), ("500m", "500m"), ("1.5Ti", "1.5Ti"), (".5", ".5")])
def test_a_quantity_is_kept_as_text(given: int | str, kept: str) -> None:
    assert Sample.read({"spec": {"memory": given}}, strict=True).spec.memory == kept


@pytest.mark.parametrize("memory", [-1, True, 0.5, "700 GB", "1e", "Gi", ""])
def test_other_quantities_are_refused_with_what_to_write(memory: object) -> None:
    assert faults({"memory": memory}) == ['spec.memory: should be a quantity such as 64, "500m" or "700Gi"']


@pytest.mark.parametrize("timeout", ["5 min", "", "10", "-1s", "1s\n"])
def test_other_durations_are_refused_with_what_to_write(timeout: str) -> None:
    assert faults({"timeout": timeout}) == ['spec.timeout: should be a duration such as "300s", "150ms" or "1m30s"']


def test_documents_use_the_names_users_write_only() -> None:
    assert Sample.read({"spec": {"ownName": "a", "own_name": "b"}}).spec.own_name == "a"
    assert faults({"own_name": "b"}, strict=True) == ["spec.own_name: is no field of this object"]


def test_reading_strictly_converts_no_types() -> None:
    assert faults({"ownName": 1}, strict=True) == ["spec.ownName: should be a valid string, not 1"]


def test_reading_strictly_knows_the_metadata_that_an_api_server_adds() -> None:
    metadata = {
        "name": "a",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": ["x/y"],
        "managedFields": [{"manager": "kubectl"}],
        "ownerReferences": [{"apiVersion": "v1", "kind": "A", "name": "a", "uid": "u", "blockOwnerDeletion": True}],
    }

    assert Sample.read({"metadata": metadata}, strict=True).metadata.finalizers == ["x/y"]


def test_a_path_is_written_as_users_write_it() -> None:
    assert field_path(("spec", "roles", 0, "name")) == "spec.roles[0].name"
    assert field_path(()) == "document"
