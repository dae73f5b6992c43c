from __future__ import annotations

from typing import Any

import pytest

from baton.rendering.arguments import canonical_flags, flags_of, json_text, words_of
from baton.rendering.resolve import resolve
from rendering_builders import role, serving


def _flags(**engine: Any) -> dict[str, Any]:
    return flags_of(resolve(serving(role(**engine)))[0].plan)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, ("--x",)),
        (False, ("--no-x",)),
        (0, ("--x", "0")),
        (0.9, ("--x", "0.9")),
        ("a b", ("--x", "a b")),
        ({"b": 1, "a": "é"}, ("--x", '{"a": "é", "b": 1}')),
        ([1, "two"], ("--x", "1", "two")),
        ([{"a": 1}], ("--x", '[{"a": 1}]')),
    ],
)
def test_a_value_becomes_words(value: Any, words: tuple[str, ...]) -> None:
    assert words_of("x", value) == words


def test_flags_have_one_name_however_they_are_written() -> None:
    written = {"max_num_seqs": 1, "no-enable-prefix-caching": True, "--x": 2, "no_y": None}

    assert canonical_flags(written) == {"max-num-seqs": 1, "enable-prefix-caching": False, "x": 2, "y": None}


def test_users_win_null_removes_and_theirs_come_last_by_name() -> None:
    flags = _flags(maxNumSeqs=1, flags={"z": 1, "max_num_seqs": 2, "shutdown-timeout": None, "a": True})

    assert flags["max-num-seqs"] == 2
    assert "shutdown-timeout" not in flags
    assert list(flags)[-2:] == ["a", "z"]


@pytest.mark.parametrize(
    ("field", "flags"),
    [
        ({"prefixCaching": False}, {"enable-prefix-caching": False}),
        ({"asyncScheduling": True}, {"async-scheduling": True}),
        ({"hybridKvCacheManager": True}, {"disable-hybrid-kv-cache-manager": False}),
        ({"toolCallParser": "p"}, {"tool-call-parser": "p", "enable-auto-tool-choice": True}),
        ({"parallel": {"expert": True}}, {"enable-expert-parallel": True}),
        ({"parallel": {"pipeline": 2}}, {"pipeline-parallel-size": 2}),
        ({"parallel": {"prefillContext": 2}}, {"prefill-context-parallel-size": 2}),
        ({"parallel": {"tensor": 2, "decodeContext": 2}}, {"decode-context-parallel-size": 2}),
        ({"enforceEager": False, "trustRemoteCode": False, "parallel": {"expert": False}}, {}),
    ],
)
def test_a_typed_field_sets_its_flags(field: dict[str, Any], flags: dict[str, Any]) -> None:
    assert {name: value for name, value in _flags(**field).items() if name not in _flags()} == flags


def test_one_rank_looks_for_no_others() -> None:
    assert [name for name in _flags() if name.startswith("data-parallel")] == ["data-parallel-size"]


def test_ranks_inside_one_process_are_the_engines_own_business() -> None:
    flags = _flags(parallel={"data": 4, "tensor": 4, "dataMode": "Internal"})

    assert {name: value for name, value in flags.items() if "parallel" in name} == {
        "data-parallel-size": 4,
        "tensor-parallel-size": 4,
    }


def test_json_is_the_same_whatever_the_order_of_keys() -> None:
    assert json_text({"b": 1, "a": {"d": 1, "c": 2}}) == json_text({"a": {"c": 2, "d": 1}, "b": 1})
