from __future__ import annotations

from baton.cli.differences import field_differences, text_differences


def test_lines_that_changed_are_listed_by_file_and_no_others() -> None:
    old = {"a": "1\n  2 \\\n3\n", "same": "x\n", "gone": "y\n"}
    new = {"a": "1\n  4 \\\n3\n", "same": "x\n", "--new": "--- z\n"}

    assert text_differences(old, new) == {"--new": ["+ --- z"], "a": ["- 2 \\", "+ 4 \\"], "gone": ["- y"]}


def test_fields_are_named_by_their_path_and_items_by_their_names() -> None:
    old = {"spec": {"containers": [{"name": "engine", "image": "a", "command": ["x", "y"]}], "hostNetwork": True}}
    new = {
        "spec": {
            "containers": [{"name": "helper"}, {"name": "engine", "image": "b", "command": ["x"]}],
            "tolerations": [],
        }
    }

    assert field_differences(old, new) == [
        "- spec.containers[engine].image: a",
        "+ spec.containers[engine].image: b",
        "- spec.containers[engine].command[1]: y",
        "- spec.hostNetwork: True",
        "+ spec.containers[helper].name: helper",
        "+ spec.tolerations: []",
    ]
    assert field_differences(old, old) == []
