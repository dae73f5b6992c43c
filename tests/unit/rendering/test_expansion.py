from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from baton.api.problems import Severity
from baton.rendering import check_engines, expand, launches, template_config_maps
from rendering_builders import SHARED, example, pair, raw, read, role, serving

if TYPE_CHECKING:
    from baton.api.serving import ModelServing


def test_typed_roles_become_raw_ones_that_mount_their_files() -> None:
    expanded = expand(example())

    assert (expanded.problems, expanded.has_errors) == ((), False)
    assert [each.name for each in expanded.roles] == ["prefill", "decode"]
    for each, files in zip(expanded.roles, expanded.config_maps, strict=True):
        assert each.engine is None
        assert each.entry_template is not None
        assert files.role == each.name
        assert {"name": "launch", "configMap": {"name": files.name}} in each.entry_template.spec["volumes"]


def test_raw_roles_pass_through_unchanged() -> None:
    launched = read({"roles": [raw(), role("typed", **SHARED)]})

    expanded = expand(launched)

    assert expanded.roles[0] == launched.spec.template.roles[0]
    assert [files.role for files in expanded.config_maps] == ["typed"]


def test_files_are_named_by_their_content() -> None:
    first, again, other = (expand(launched).config_maps for launched in (pair(), pair(), pair(decode={"seed": 1})))

    assert first == again
    assert first[0] == other[0]
    assert first[1].name != other[1].name
    assert first[1].name.startswith("m-decode-launch-")


def test_changed_sizes_of_one_side_reach_the_other() -> None:
    first, other = (expand(launched).config_maps for launched in (pair(), pair(decode={"parallel": {"data": 8}})))

    assert first[0].name != other[0].name


def test_an_error_leaves_nothing_to_use() -> None:
    expanded = expand(serving(role(), engine={"image": None}))

    assert (expanded.roles, expanded.config_maps, expanded.has_errors) == ((), (), True)
    assert len(expanded.plans) == 1


def test_what_is_wrong_can_be_asked_without_rendering() -> None:
    launched = serving(role(templates={"configMap": "not-seen-by-admission"}), engine={"image": None})

    assert [problem.path for problem in check_engines(launched)] == ["spec.template.roles[0].engine.image"]


def test_a_warning_leaves_all_usable() -> None:
    expanded = expand(pair(prefill={"seed": 1}))

    assert [problem.severity for problem in expanded.problems] == [Severity.WARNING]
    assert len(expanded.roles) == 2


def _with_templates(*names: str) -> ModelServing:
    return serving(*(role(f"r{place}", templates={"configMap": name}) for place, name in enumerate(names)))


def test_a_template_of_the_users_takes_the_place_of_ours_in_the_roles_that_name_it() -> None:
    launched = serving(role("own", templates={"configMap": "mine"}), role("ours"))

    own, ours = expand(launched, config_maps={"mine": {"ready.sh.j2": "exit {{ plan.ranks_per_node }}\n"}}).config_maps

    assert own.data["ready.sh"] == "exit 1\n"
    assert ours.data["ready.sh"].startswith("#!/usr/bin/env bash")


def test_ranks_are_listed_with_the_users_templates() -> None:
    text = '{"kv_connector": "Mine", "kv_role": "kv_both", "kv_connector_extra_config": {}}'

    for rank in launches(
        pair(templates={"configMap": "mine"}), config_maps={"mine": {"kv-transfer-config.json.j2": text}}
    ):
        assert rank.kv_transfer_config == json.loads(text)


def test_the_config_maps_to_look_up_are_those_of_all_roles() -> None:
    assert template_config_maps(_with_templates("a", "b", "a")) == {"a", "b"}
    assert template_config_maps(pair(templates={"configMap": "shared"})) == {"shared"}
    assert template_config_maps(pair(templates={"configMap": "shared"}, prefill={"templates": {"configMap": "a"}})) == {
        "shared",
        "a",
    }
    assert template_config_maps(example()) == frozenset()


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        (
            {},
            (
                "there is no ConfigMap team/mine with the label baton.serving.volcano.sh/templates; create it, label "
                "it (kubectl label configmap -n team mine baton.serving.volcano.sh/templates=true), or remove templates"
            ),
        ),
        ({"mine": {"ready.sh.j2": "{{ plan.nothing }}"}}, "nothing"),
        ({"mine": {"ready.sh.j2": "{% if %}"}}, "a template is wrong"),
    ],
)
def test_missing_and_wrong_templates_of_the_users_are_refused(texts: dict[str, dict[str, str]], line: str) -> None:
    expanded = expand(_with_templates("mine"), config_maps=texts)

    (problem,) = expanded.problems
    assert (expanded.roles, problem.path) == ((), "spec.template.roles[0].engine.templates.configMap")
    assert line in problem.message


def test_a_template_that_replaces_none_is_remarked_upon() -> None:
    expanded = expand(_with_templates("mine"), config_maps={"mine": {"launch.sh": "exit"}})

    (problem,) = expanded.problems
    assert problem.severity is Severity.WARNING
    assert "launch.sh of ConfigMap mine replaces no template; there are " in problem.message
    assert "launch.sh.j2" in problem.message
