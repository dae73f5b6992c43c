from __future__ import annotations

from baton.api.problems import Severity
from baton.rendering import expand
from rendering_builders import SHARED, example, pair, raw, read, role, serving


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


def test_a_warning_leaves_all_usable() -> None:
    expanded = expand(pair(prefill={"seed": 1}))

    assert [problem.severity for problem in expanded.problems] == [Severity.WARNING]
    assert len(expanded.roles) == 2


def test_a_template_of_the_users_takes_the_place_of_ours() -> None:
    expanded = expand(serving(role()), overrides={"ready.sh.j2": "exit {{ plan.ranks_per_node }}\n"})

    assert expanded.config_maps[0].data["ready.sh"] == "exit 1\n"


def test_a_wrong_template_of_the_users_is_a_problem() -> None:
    expanded = expand(serving(role()), overrides={"ready.sh.j2": "{{ plan.nothing }}"})

    assert expanded.roles == ()
    assert "nothing" in str(expanded.problems[0])
