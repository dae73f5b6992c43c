from __future__ import annotations

from baton.api.problems import Severity
from baton.controllers.desire import desired_of
from builders import serving
from rendering_builders import pair


def test_a_raw_role_is_desired_as_it_is_written() -> None:
    built = serving().role("decode").build()
    desired, problems = desired_of(built)
    assert desired is not None
    assert (desired.serving, desired.roles) == (built, tuple(built.spec.template.roles))
    assert (desired.config_files, problems) == ((), ())


def test_a_role_that_admission_refuses_is_not_desired() -> None:
    desired, problems = desired_of(serving().role("decode", workerReplicas=1).build())
    assert desired is None
    assert [problem.path for problem in problems] == ["spec.template.roles[0].workerTemplate"]


def test_warnings_come_along_with_what_is_desired() -> None:
    builder = serving(replicas=3).role("decode").rollout(maxUnavailable="10%")
    desired, problems = desired_of(builder.build())
    assert desired is not None
    assert [problem.severity for problem in problems] == [Severity.WARNING]


def test_typed_roles_are_desired_as_raw_ones_with_their_launch() -> None:
    written = pair()
    desired, problems = desired_of(written)
    assert desired is not None, problems
    assert all(role.entry_template is not None for role in desired.roles)
    assert [file.role for file in desired.config_files] == ["prefill", "decode"]
    assert all("launch.sh" in file.data for file in desired.config_files)
    assert desired.serving is written, "revisions are taken from what the user wrote"


def test_engines_that_cannot_work_are_not_desired() -> None:
    desired, problems = desired_of(
        pair(prefill={"parallel": {"data": 2, "tensor": 1}}, decode={"parallel": {"tensor": 2}})
    )
    assert desired is None
    assert any(problem.severity is Severity.ERROR and "engine.parallel" in problem.path for problem in problems)
