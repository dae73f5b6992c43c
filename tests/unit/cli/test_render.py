from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml
from click.testing import CliRunner, Result

from baton.cli.render import render
from rendering_builders import EXAMPLE

if TYPE_CHECKING:
    from pathlib import Path


def _render(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(render, list(arguments), input=text)


def _changed(old: str, new: str) -> str:
    text = EXAMPLE.read_text()
    assert old in text
    return text.replace(old, new)


def test_scripts_follow_a_summary() -> None:
    result = _render(str(EXAMPLE))

    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[:3] == [
        "# ModelServing dsv4: 1 x ServingGroup of",
        (
            "#   prefill: 1 x prefill DP4 TP4 PP1: 1 pod(s) with 4 rank(s) on 16 huawei.com/Ascend910; "
            "ports api 7100-7103, rpc 12321, kv 30000-30015"
        ),
        (
            "#   decode: 1 x decode DP16 TP1 PP1: 1 pod(s) with 16 rank(s) on 16 huawei.com/Ascend910; "
            "ports api 7100-7115, rpc 12321, kv 30100-30115"
        ),
    ]
    assert [line.rpartition("/")[2] for line in lines if line.startswith("# =====")] == ["launch.sh", "ready.sh"] * 2


def test_json_has_one_entry_a_rank() -> None:
    assert len(json.loads(_render(str(EXAMPLE), "--format", "json").stdout)) == 20


def test_one_role_may_be_chosen() -> None:
    ranks = json.loads(_render(str(EXAMPLE), "--format", "json", "--role", "prefill").stdout)

    assert {rank["role"] for rank in ranks} == {"prefill"}
    assert len(_render(str(EXAMPLE), "--role", "prefill").stdout) < len(_render(str(EXAMPLE)).stdout)
    assert _render(str(EXAMPLE), "--role", "x").stderr == "Error: there is no role x; there are prefill, decode\n"


def test_files_are_written_below_a_directory(tmp_path: Path) -> None:
    result = _render(str(EXAMPLE), "--format", "dir", "--output", str(tmp_path), "--role", "decode")

    assert result.exit_code == 0
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")) == [
        "dsv4/decode/launch.sh",
        "dsv4/decode/ranks.json",
        "dsv4/decode/ready.sh",
        "dsv4/decode/role.yaml",
    ]
    assert yaml.safe_load((tmp_path / "dsv4/decode/role.yaml").read_text())["name"] == "decode"


def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "dsv4").touch()

    result = _render(str(EXAMPLE), "--format", "dir", "--output", str(tmp_path))

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: cannot write to ")


@pytest.mark.parametrize("arguments", [("--format", "dir"), ("--output", "x")])
def test_a_directory_is_named_for_files_and_for_nothing_else(arguments: tuple[str, ...]) -> None:
    assert "--format dir and --output DIRECTORY go together" in _render(str(EXAMPLE), *arguments).stderr


def test_every_modelserving_of_a_file_is_rendered_and_the_rest_is_passed_over() -> None:
    other = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: x"
    text = "\n---\n".join([EXAMPLE.read_text(), other, _changed("name: dsv4", "name: second")])

    groups = {rank["servingGroup"] for rank in json.loads(_render("-", "--format", "json", text=text).stdout)}

    assert groups == {"dsv4-0", "second-0"}


def test_an_error_names_path_and_cure_and_nothing_is_printed() -> None:
    result = _render("-", text=_changed("data: 16, tensor: 1", "data: 2, tensor: 8"))

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "error: dsv4: spec.template.roles[0].engine.parallel.tensor: prefill tensor 4 is smaller than decode tensor 8, "
        "which Mooncake connectors refuse; raise parallel.tensor of prefill or lower that of decode\n"
        "Error: refused: dsv4\n"
    )


def test_a_warning_does_not_stop() -> None:
    result = _render("-", text=_changed("        safetensors", "        max-model-len: 1000\n        safetensors"))

    assert result.exit_code == 0
    assert result.stderr.startswith("warning: dsv4: spec.template.engine.flags: --max-model-len wins")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "standard input cannot be used\nerror: document: is no YAML"),
        ("", "there is no ModelServing in standard input"),
        ("kind: ModelServing", "error: apiVersion: is required"),
        (
            _changed("maxNumSeqs: 16", "maxNumSeq: 16"),
            "error: spec.template.roles[0].engine.maxNumSeq: is no field of this object; did you mean maxNumSeqs?",
        ),
    ],
)
def test_input_that_is_no_modelserving_is_refused_in_words(text: str, message: str) -> None:
    result = _render("-", text=text)

    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_a_file_that_is_not_there_is_said() -> None:
    assert _render("nowhere.yaml").stderr.startswith("Error: cannot read nowhere.yaml")


def test_fields_may_be_changed_on_the_way() -> None:
    changes = ("--set", "spec.template.roles[decode].replicas=2", "--set", "spec.template.engine.ports.api=8000")
    ranks = json.loads(_render(str(EXAMPLE), "--format", "json", *changes).stdout)

    assert len(ranks) == 4 + 2 * 16
    assert min(rank["port"] for rank in ranks) == 8000


def test_a_changed_field_is_checked_like_a_written_one() -> None:
    unknown = _render(str(EXAMPLE), "--set", "spec.template.engine.maxNumSequences=2")
    wrong = _render(str(EXAMPLE), "--set", "spec.template.roles[decode].engine.parallel.tensor=8")
    nowhere = _render(str(EXAMPLE), "--set", "spec.template.roles[x].replicas=2")

    assert [result.exit_code for result in (unknown, wrong, nowhere)] == [1, 1, 2]
    assert "did you mean maxNumSeqs?" in unknown.stderr
    assert "prefill tensor 4 is smaller than decode tensor 8" in wrong.stderr
    assert "there is no item x; there are prefill, decode" in nowhere.stderr


def test_templates_come_from_config_maps_of_the_file() -> None:
    config_map = yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "mine", "labels": {"baton.serving.volcano.sh/templates": "true"}},
            "data": {"ready.sh.j2": "true {{ plan.role }}\n"},
        }
    )
    change = ("--set", "spec.template.engine.templates.configMap=mine")

    with_it = _render("-", *change, text=f"{EXAMPLE.read_text()}\n---\n{config_map}")
    without = _render("-", *change, text=EXAMPLE.read_text())
    unlabelled = _render("-", *change, text=f"{EXAMPLE.read_text()}\n---\n{config_map.replace('templates: ', 'x: ')}")
    number = config_map.replace("data:", "data:\n  other: 1")
    no_text = _render("-", *change, text=f"{EXAMPLE.read_text()}\n---\n{number}")

    assert "\ntrue decode\n" in with_it.stdout
    assert (without.exit_code, "there is no ConfigMap default/mine with the label" in without.stderr) == (1, True)
    assert "label it (kubectl label configmap -n default mine baton.serv" in unlabelled.stderr
    assert "data.other: of ConfigMap mine should be text by name" in no_text.stderr
