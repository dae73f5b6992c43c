"""The launch of a role: environment, command and KV transfer configuration of its ranks, with references."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from baton.api.meta import JsonObject
from baton.rendering.arguments import API_FLAGS, flags_of, headless_flags, words_of
from baton.rendering.environment import environment_of
from baton.rendering.merge import merge_objects
from baton.rendering.plan import RolePlan
from baton.rendering.references import names_in
from baton.rendering.templates import Templates


@dataclass(frozen=True, slots=True)
class Launch:
    """What every rank of a role is started with; the ranks differ only in what the references stand for.

    `command` holds the words of the command line, one flag with its values at a time. After them come those of the
    entry pod or those of the workers, when the workers are headless; else there are none.
    """

    environment: dict[str, str]
    command: tuple[tuple[str, ...], ...]
    entry_flags: tuple[tuple[str, ...], ...]
    worker_flags: tuple[tuple[str, ...], ...]
    kv_transfer_config: JsonObject | None

    @property
    def references(self) -> frozenset[str]:
        """The names that environment and command refer to."""
        flags = (*self.command, *self.entry_flags, *self.worker_flags)
        return names_in([*self.environment.values(), *(word for words in flags for word in words)])


def launch_of(plan: RolePlan, templates: Templates) -> Launch:
    """Put together what the ranks of a role are started with.

    Raises:
        TemplateFault: the template of the KV transfer configuration is wrong.

    """
    config = _kv_transfer_config(plan, templates)
    flags = flags_of(plan) | ({} if config is None else {"kv-transfer-config": config})
    of_api, own = (API_FLAGS, headless_flags(plan)) if plan.has_headless_workers else (frozenset[str](), {})
    return Launch(
        environment=environment_of(plan),
        command=(("vllm", "serve", plan.model_path), *_words(flags, flags.keys() - of_api)),
        entry_flags=_words(flags, of_api),
        worker_flags=_words(own, own),
        kv_transfer_config=config,
    )


def _words(flags: JsonObject, names: Collection[str]) -> tuple[tuple[str, ...], ...]:
    """Return the words of some of the flags, in the order of all."""
    return tuple(words_of(name, value) for name, value in flags.items() if name in names)


def files_of(plan: RolePlan, launch: Launch, templates: Templates) -> dict[str, str]:
    """Render the files of a role's launch ConfigMap.

    Raises:
        TemplateFault: a template is wrong.

    """
    return {name: templates.render(f"{name}.j2", plan=plan, launch=launch) for name in _files(plan)}


def _files(plan: RolePlan) -> Iterator[str]:
    yield from ("launch.sh", "ready.sh")
    if plan.kv is not None and plan.kv.store is not None and plan.kv.store.has_file:
        yield "store.json"


def _kv_transfer_config(plan: RolePlan, templates: Templates) -> JsonObject | None:
    if plan.kv is None:
        return None
    text = templates.render("kv-transfer-config.json.j2", plan=plan, kv=plan.kv)
    config = json.loads(text)
    if not isinstance(config, dict):
        raise TypeError("kv-transfer-config.json.j2 must render a JSON object")
    # With a store the connector that hands over is the first child.
    handing_over = config["kv_connector_extra_config"]["connectors"][0] if plan.kv.store else config
    extra = plan.engine.kv_transfer_extra_config
    if extra:
        below = handing_over.get("kv_connector_extra_config", {})
        handing_over["kv_connector_extra_config"] = merge_objects(below, extra)
    return config
