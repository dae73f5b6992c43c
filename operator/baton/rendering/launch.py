"""The launch of a role: environment, command and KV transfer configuration of its ranks, with references."""

from __future__ import annotations

import json
from dataclasses import dataclass

from baton.api.meta import JsonObject
from baton.rendering.arguments import flags_of, words_of
from baton.rendering.environment import environment_of
from baton.rendering.merge import merge_objects
from baton.rendering.plan import RolePlan
from baton.rendering.references import names_in
from baton.rendering.templates import Templates


@dataclass(frozen=True, slots=True)
class Launch:
    """What every rank of a role is started with; the ranks differ only in what the references stand for.

    `command` holds the words of the command line, one flag with its values at a time.
    """

    environment: dict[str, str]
    command: tuple[tuple[str, ...], ...]
    kv_transfer_config: JsonObject | None

    @property
    def references(self) -> frozenset[str]:
        """The names that environment and command refer to."""
        return names_in([*self.environment.values(), *(word for words in self.command for word in words)])


def launch_of(plan: RolePlan, templates: Templates) -> Launch:
    """Put together what the ranks of a role are started with.

    Raises:
        TemplateFault: the template of the KV transfer configuration is wrong.

    """
    config = _kv_transfer_config(plan, templates)
    flags = flags_of(plan) | ({} if config is None else {"kv-transfer-config": config})
    command = (("vllm", "serve", plan.model_path), *(words_of(name, value) for name, value in flags.items()))
    return Launch(environment=environment_of(plan), command=command, kv_transfer_config=config)


def files_of(plan: RolePlan, launch: Launch, templates: Templates) -> dict[str, str]:
    """Render the files of a role's launch ConfigMap.

    Raises:
        TemplateFault: a template is wrong.

    """
    return {name: templates.render(f"{name}.j2", plan=plan, launch=launch) for name in ("launch.sh", "ready.sh")}


def _kv_transfer_config(plan: RolePlan, templates: Templates) -> JsonObject | None:
    if plan.kv is None:
        return None
    text = templates.render("kv-transfer-config.json.j2", plan=plan, kv=plan.kv)
    config = json.loads(text)
    if not isinstance(config, dict):
        raise TypeError("kv-transfer-config.json.j2 must render a JSON object")
    extra = plan.engine.kv_transfer_extra_config
    return merge_objects(config, {"kv_connector_extra_config": extra}) if extra else config
