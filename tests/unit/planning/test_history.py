from __future__ import annotations

import json
from typing import Any

import pytest

from baton.api import labels
from baton.planning.history import read_template, restore
from baton.planning.model import ChildKind, ConfigFile
from baton.planning.plan import plan
from planned_cluster import PAIR, Cluster, created, running

LAUNCH = ConfigFile("launch-x", "decode", {"launch.sh": "true"})


def stored(cluster: Cluster) -> dict[str, Any]:
    """Return the one ControllerRevision that a plan creates."""
    (document,) = created(cluster.plan(), ChildKind.REVISION).values()
    return document


def test_a_revision_has_the_name_labels_and_roles_that_existing_clients_read() -> None:
    document = stored(Cluster(PAIR))
    revision = document["metadata"]["labels"][labels.REVISION]
    assert document["metadata"]["name"] == f"demo-{revision}"
    assert document["metadata"]["labels"] == {labels.NAME: "demo", labels.REVISION: revision}
    assert document["metadata"]["ownerReferences"][0]["uid"] == "uid-of-demo"
    assert (document["apiVersion"], document["kind"], document["revision"]) == ("apps/v1", "ControllerRevision", 1)
    assert [role["name"] for role in document["data"]["data"]] == ["prefill", "decode"]


def test_what_is_read_is_what_was_written() -> None:
    cluster = Cluster(PAIR, LAUNCH)
    document = stored(cluster)
    revision = document["metadata"]["labels"][labels.REVISION]
    template = read_template(revision, json.loads(json.dumps(document["data"])), "")
    assert template is not None
    assert tuple(entry.role for entry in template.roles.values()) == cluster.builder.desired(LAUNCH).roles
    assert template.config_files == (LAUNCH,)
    assert {entry.revision for entry in template.roles.values()} == {revision}


def test_the_roles_alone_are_enough() -> None:
    data = {"data": stored(Cluster(PAIR))["data"]["data"]}
    template = read_template("abc", data, "")
    assert template is not None
    assert [entry.hash != "" for entry in template.roles.values()] == [True, True]


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"data": None},
        {"data": [3]},
        {"data": [{}]},
        {"data": [{"name": "decode"}], "hashes": 3},
        {"data": [], "files": [{}]},
        {"data": [], "files": 3},
    ],
)
def test_what_cannot_be_read_is_no_template(data: Any) -> None:
    assert read_template("abc", data, "") is None


def test_settings_follow_the_spec_without_a_new_revision() -> None:
    cluster = running(PAIR)
    cluster.edit(PAIR.replicas(3).role("decode", replicas=2))
    assert cluster.plan().stages[-1][0].kind is ChildKind.REVISION
    cluster.step()
    (view,) = cluster.revisions.values()
    settings = json.loads(view.settings)
    assert settings["replicas"] == 3
    assert [role["replicas"] for role in settings["template"]["roles"]] == [1, 2]
    assert "entryTemplate" not in view.settings


def test_a_spec_is_restored_as_it_was_accepted_last() -> None:
    cluster = running(PAIR.rollout(partition=1), LAUNCH)
    cluster.edit(PAIR.replicas(2).role("decode", replicas=3).rollout(partition=1), LAUNCH)
    cluster.converge()
    good = cluster.builder.build()
    cluster.edit(cluster.builder.replicas(9).role("prefill", image="engine:9"))
    restored = restore(cluster.builder.document(), cluster.revisions.values())
    assert restored is not None
    assert restored.serving.spec == good.spec
    assert restored.serving.metadata.generation == good.metadata.generation
    assert plan(restored, cluster.observed()).actions == ()


@pytest.mark.parametrize("loss", ["vanish", "fail"])
def test_what_was_restored_is_healed(loss: str) -> None:
    cluster = running(PAIR.replicas(2), LAUNCH)
    cluster.edit(cluster.builder.role("prefill", image="engine:9"))
    getattr(cluster, loss)("demo-0-decode-0-0")
    restored = restore(cluster.builder.document(), cluster.revisions.values())
    assert restored is not None
    made = plan(restored, cluster.observed())
    if loss == "fail":
        cluster.carry_out(made.actions)
        cluster.finish_deletions()
        made = plan(restored, cluster.observed())
    assert list(created(made)) == ["demo-0-decode-0-0"]
    assert made.status.observed_generation == 1


def test_nothing_is_restored_that_is_not_known() -> None:
    cluster = running(PAIR)
    document = cluster.builder.document()
    assert restore(document, ()) is None
    assert restore({**document, "status": {}}, cluster.revisions.values()) is None
    cluster.disown_revisions()
    assert restore(document, cluster.revisions.values()) is None


@pytest.mark.parametrize("settings", ["{", "[]", "{}", "3", '{"template": {"roles": [{}]}}', '{"template": []}'])
def test_with_settings_that_cannot_be_read_there_is_no_template(settings: str) -> None:
    assert read_template("abc", stored(Cluster(PAIR))["data"], settings) is None


@pytest.mark.parametrize("settings", ["", '{"template": {"roles": []}, "replicas": "many"}'])
def test_settings_that_are_missing_or_wrong_restore_nothing(settings: str) -> None:
    cluster = running(PAIR)
    cluster.change_revisions(settings=settings)
    assert restore(cluster.builder.document(), cluster.revisions.values()) is None
