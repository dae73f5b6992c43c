from __future__ import annotations

import pytest

from baton.rendering.templates import TemplateFault, Templates
from rendering_builders import ROOT

PACKAGED = sorted(path.name for path in (ROOT / "templates").iterdir())


def test_there_are_templates() -> None:
    assert {"launch.sh.j2", "ready.sh.j2", "kv-transfer-config.json.j2"} <= set(PACKAGED)


@pytest.mark.parametrize("name", PACKAGED)
def test_a_template_says_what_it_is_for(name: str) -> None:
    text = (ROOT / "templates" / name).read_text()

    assert text.startswith("{#-")
    assert "nputs" in text.partition("-#}")[0]


def test_a_text_of_the_users_replaces_a_packaged_template() -> None:
    templates = Templates({"ready.sh.j2": "port {{ port | shell }} {{ port | json }}\n"})

    assert templates.render("ready.sh.j2", port="a b") == "port 'a b' \"a b\"\n"


@pytest.mark.parametrize(
    "text", ["{{ unknown }}", "{% if %}", "{{ 1 / 0 }}", "{{ ().__class__.__base__ }}", "{% include 'none.j2' %}"]
)
def test_a_wrong_template_is_one_kind_of_fault(text: str) -> None:
    with pytest.raises(TemplateFault):
        Templates({"ready.sh.j2": text}).render("ready.sh.j2")
