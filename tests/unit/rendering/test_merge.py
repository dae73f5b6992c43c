from __future__ import annotations

from baton.api.engine import Engine
from baton.rendering.merge import engine_path, merge_engines, merge_objects


def _engine(**fields: object) -> Engine:
    return Engine.model_validate(fields)


def test_a_role_inherits_what_it_does_not_set() -> None:
    merged = merge_engines(_engine(image="a", parallel={"data": 2, "expert": True}), _engine(parallel={"data": 4}))

    assert merged == _engine(image="a", parallel={"data": 4, "expert": True})


def test_false_and_zero_are_set() -> None:
    merged = merge_engines(_engine(prefixCaching=True, seed=1), _engine(prefixCaching=False, seed=0))

    assert (merged.prefix_caching, merged.seed) == (False, 0)


def test_objects_are_merged_deep_and_null_removes_the_shared_key() -> None:
    shared = _engine(additionalConfig={"a": {"x": 1, "y": 2}, "b": 1, "list": [1]})
    own = _engine(additionalConfig={"a": {"y": None, "z": 3}, "b": None, "list": [2]})

    assert merge_engines(shared, own).additional_config == {"a": {"x": 1, "z": 3}, "list": [2]}


def test_a_null_flag_stays_because_it_also_removes_a_computed_one() -> None:
    merged = merge_engines(_engine(flags={"a": 1, "b": {"x": 1}}), _engine(flags={"a": None, "b": {"y": 2}}))

    assert merged.flags == {"a": None, "b": {"y": 2}}


def test_a_removed_flag_may_be_shared_computed_or_set_again_by_a_role() -> None:
    shared = _engine(flags={"a": 1}, removeFlags=["b", "c"])
    merged = merge_engines(shared, _engine(flags={"c": 2}, removeFlags=["a"]))

    assert merged.flags == {"a": None, "b": None, "c": 2}
    assert merged.remove_flags is None


def test_one_engine_may_be_missing() -> None:
    assert merge_engines(None, _engine(image="a")) == _engine(image="a")
    assert merge_engines(_engine(env={"A": "1"}), None) == _engine(env={"A": "1"})


def test_a_patch_replaces_what_is_no_object() -> None:
    assert merge_objects({"a": 1}, {"a": {"b": None, "c": 2}}) == {"a": {"c": 2}}


def test_a_path_leads_to_where_the_field_was_written() -> None:
    shared, own = _engine(image="a"), _engine(parallel={"tensor": 2})

    assert engine_path("image", index=1, own=own, shared=shared) == "spec.template.engine.image"
    assert engine_path("parallel.tensor", index=1, own=own, shared=shared) == (
        "spec.template.roles[1].engine.parallel.tensor"
    )
    assert engine_path("seed", index=1, own=own, shared=shared) == "spec.template.roles[1].engine.seed"
    assert engine_path("seed", index=1, own=None, shared=shared) == "spec.template.engine.seed"
    assert engine_path("seed", index=1, own=own, shared=None) == "spec.template.roles[1].engine.seed"
