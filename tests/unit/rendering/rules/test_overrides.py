from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from baton.rendering.arguments import OWNED
from baton.rendering.rules import overrides
from rendering_builders import pair, problems, role, serving

if TYPE_CHECKING:
    from baton.api.serving import ModelServing

ENGINE = "spec.template.roles[0].engine"
TEMPLATE = "spec.template.roles[0].entryTemplate.spec"


def _templated(**spec: Any) -> ModelServing:
    return serving(role() | {"entryTemplate": {"spec": {"containers": [], **spec}}})


def _variable(name: str) -> ModelServing:
    return _templated(containers=[{"name": "engine", "env": [{"name": name, "value": "1"}]}])


CASES = {
    "flag-computed": (
        serving(role(flags={"port": 1})),
        f"error: {ENGINE}.flags: --port is computed; set ports.api",
    ),
    "flag-name": (
        serving(role(flags={"a b": 1})),
        f"error: {ENGINE}.flags: 'a b' is no flag; write its name without dashes in front, and the value apart",
    ),
    "flag-override": (
        serving(role(flags={"max_num_seqs": 2}, maxNumSeqs=1)),
        (
            f"warning: {ENGINE}.flags: --max-num-seqs wins over what the typed fields say; use the typed field alone "
            "if this is not meant"
        ),
    ),
    "flag-null": (
        serving(role(flags={"x": None})),
        (
            f"warning: {ENGINE}.flags: kubectl apply drops the null of x, at the latest when it is repeated; write x "
            "into removeFlags instead"
        ),
    ),
    "flag-removed": (
        serving(role(flags={"max_num_seqs": 2}, removeFlags=["max-num-seqs"])),
        f"error: {ENGINE}.removeFlags: --max-num-seqs is in flags, too; remove it from one of the two",
    ),
    "variable-computed": (
        serving(role(env={"ASCEND_RT_VISIBLE_DEVICES": "0"}, parallel={"data": 2})),
        (
            f"error: {ENGINE}.env: ASCEND_RT_VISIBLE_DEVICES is set by the launch script for each pod or rank; remove "
            "it from env"
        ),
    ),
    "variable-name": (
        serving(role(env={"a-b": "0"})),
        f"error: {ENGINE}.env: 'a-b' is no name of an environment variable; use letters, digits and underscores",
    ),
    "variable-network": (
        pair(prefill={"env": {"HCCL_IF_IP": "10.0.0.1"}}),
        (
            f"warning: {ENGINE}.env: HCCL_IF_IP wins over the address or interface that Baton finds, for all pods "
            "alike; use network.interface, or remove it"
        ),
    ),
    "variable-planned": (
        pair(prefill={"env": {"VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT": "60"}}),
        (
            f"warning: {ENGINE}.env: VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT contradicts the plan, which has 480; set "
            "kvTransfer.timeoutSeconds instead"
        ),
    ),
    "text": (
        serving(role(additionalConfig={"a": ["\0"]})),
        f"error: {ENGINE}.additionalConfig: there is a zero character in the text; remove it",
    ),
    "template": (
        _templated(volumes=[{"emptyDir": {}}]),
        (
            f"error: {TEMPLATE}: containers, initContainers, volumes, env, ports and volumeMounts are lists of objects "
            "with their names; correct the template, or remove it: it is optional with a typed engine"
        ),
    ),
    "template-variable": (
        _variable("HCCL_BUFFSIZE"),
        (
            f"error: {TEMPLATE}.containers: the launch script sets HCCL_BUFFSIZE itself, so the template's value has "
            "no effect; set it in env of the engine"
        ),
    ),
    "template-contradiction": (
        _templated(hostNetwork=True),
        (
            f"error: {TEMPLATE}.hostNetwork: the launch depends on hostNetwork, which the engine has as False; set "
            "network.hostNetwork of the engine and remove it here"
        ),
    ),
}


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_says_what_is_wrong_and_how_to_mend_it(rule: str) -> None:
    launched, message = CASES[rule]

    assert problems(launched, overrides.RULES) == [message]


def test_every_rule_has_its_case() -> None:
    assert {rule.id for rule in overrides.RULES} == set(CASES)


@pytest.mark.parametrize(
    "flags",
    [
        {"tensor_parallel_size": 2, "data-parallel-size": "4"},
        {"host": "0.0.0.0", "port": "$(port)"},
        {"max-num-seqs": "8"},
    ],
    ids=str,
)
def test_what_repeats_the_computed_value_is_accepted(flags: dict[str, Any]) -> None:
    launched = serving(role(parallel={"data": 4, "tensor": 2}, maxNumSeqs=8, flags=flags))

    assert problems(launched, overrides.RULES) == []


@pytest.mark.parametrize("name", sorted(OWNED))
def test_flags_that_ports_and_ranks_hang_on_are_refused(name: str) -> None:
    (problem,) = problems(serving(role(flags={name: "other"})), overrides.RULES)

    assert problem.endswith(OWNED[name])


@pytest.mark.parametrize(
    "env",
    [{"VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT": "480"}, {"HCCL_BUFFSIZE": "4096"}],
    ids=str,
)
def test_variables_that_contradict_nothing_are_accepted(env: dict[str, str]) -> None:
    assert problems(pair(env=env), overrides.RULES) == []


def test_one_process_may_be_given_its_devices() -> None:
    assert problems(serving(role(env={"ASCEND_RT_VISIBLE_DEVICES": "0"})), overrides.RULES) == []


def test_other_flags_and_variables_are_the_users() -> None:
    launched = serving(role(flags={"api-key": "x", "no_log_requests": True}, env={"HCCL_BUFFSIZE": "200", "A": "1"}))

    assert problems(launched, overrides.RULES) == []


@pytest.mark.parametrize("name", ["MY_OWN", "PATH"])
def test_variables_that_the_launch_does_not_set_may_be_in_the_template(name: str) -> None:
    assert problems(_variable(name), overrides.RULES) == []


def test_a_removed_flag_is_complained_about_where_it_is_written() -> None:
    (problem,) = problems(serving(role(removeFlags=["port"])), overrides.RULES)

    assert problem == f"error: {ENGINE}.removeFlags: --port is computed; set ports.api"
