from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from baton.cli.operator import operator
from baton.cli.router import router
from chart.rendering import CHART, EVERYTHING, NAMESPACE, ROOT, VALUE_SETS, Chart, Object, Objects, containers
from chart.rendering import pod_template as template_of

if TYPE_CHECKING:
    from helm import Helm

COMMANDS = {"operator": operator, "router": router}
CLUSTER_WIDE = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", "ValidatingWebhookConfiguration"}


def flags(workload: Object) -> dict[str, str]:
    (container,) = containers(workload)
    parts = (argument.partition("=") for argument in container["args"])
    return {name: value for name, _, value in parts}


def labels_match(selector: dict[str, str], workload: Object) -> bool:
    return bool(selector.items() <= template_of(workload)["metadata"]["labels"].items())


def test_helm_finds_nothing_to_complain_about(helm: Helm) -> None:
    helm.run("lint", "--strict", str(CHART))


def test_every_object_says_whose_it_is(objects: Objects) -> None:
    for found in objects:
        if found["kind"] == "CustomResourceDefinition":
            continue
        labels = found["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "baton"
        assert labels["app.kubernetes.io/instance"] == "baton"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert ("namespace" in found["metadata"]) == (found["kind"] not in CLUSTER_WIDE)


def test_no_object_is_named_twice(objects: Objects) -> None:
    keys = [(found["kind"], found["metadata"].get("namespace"), found["metadata"]["name"]) for found in objects]

    assert len(keys) == len(set(keys))


def test_containers_meet_the_restricted_pod_security_standard(objects: Objects) -> None:
    for workload in objects.of("Deployment"):
        pod = template_of(workload)["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        for container in containers(workload):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_only_those_who_ask_the_api_server_get_a_token(objects: Objects) -> None:
    for workload in objects.of("Deployment"):
        pod = template_of(workload)["spec"]
        account = objects.get("ServiceAccount", pod["serviceAccountName"])
        assert account["automountServiceAccountToken"] is False
        assert pod["automountServiceAccountToken"] is True


def test_containers_ask_for_resources_and_have_a_memory_limit(objects: Objects) -> None:
    for workload in objects.of("Deployment"):
        for container in containers(workload):
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]


def test_selectors_find_the_pods_of_one_deployment(objects: Objects) -> None:
    deployments = objects.of("Deployment")
    assert len(deployments) == 2
    for workload in deployments:
        assert labels_match(workload["spec"]["selector"]["matchLabels"], workload)
    selectors = [service["spec"]["selector"] for service in objects.of("Service")]
    selectors += [
        found["spec"]["selector"]["matchLabels"]
        for found in objects.of("PodDisruptionBudget", "PodMonitor", "Deployment")
    ]
    for selector in selectors:
        assert sum(labels_match(selector, workload) for workload in deployments) == 1


def test_every_argument_is_an_option_of_the_command(objects: Objects) -> None:
    for workload in objects.of("Deployment"):
        (container,) = containers(workload)
        program, name = container["command"]
        assert program == "baton"
        command = COMMANDS[name]
        command.make_context(name, list(container["args"]))  # raises click.UsageError
        known = {option for parameter in command.params for option in parameter.opts}
        assert flags(workload).keys() <= known


def test_ports_agree_with_arguments_probes_and_services(objects: Objects) -> None:
    for workload in objects.of("Deployment"):
        (container,) = containers(workload)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        given = flags(workload)
        expected = {"http": "--port", "admin": "--admin-port", "probes": "--probe-port", "webhook": "--webhook-port"}
        assert {name: str(port) for name, port in ports.items()} == {name: given[expected[name]] for name in ports}
        for probe in ("startupProbe", "livenessProbe"):
            assert container[probe]["httpGet"]["path"] == "/healthz"
            assert container[probe]["httpGet"]["port"] in ports
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        assert container["readinessProbe"]["httpGet"]["port"] in ports
        for service in objects.of("Service"):
            if labels_match(service["spec"]["selector"], workload):
                assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports.keys()
        for monitor in objects.of("PodMonitor"):
            if labels_match(monitor["spec"]["selector"]["matchLabels"], workload):
                assert {entry["port"] for entry in monitor["spec"]["podMetricsEndpoints"]} <= ports.keys()


def test_volumes_are_there_for_every_mount(objects: Objects) -> None:
    for workload in objects.of("Deployment"):
        volumes = {volume["name"] for volume in template_of(workload)["spec"].get("volumes", [])}
        mounted = {mount["name"] for container in containers(workload) for mount in container.get("volumeMounts", [])}
        assert volumes == mounted


def test_a_router_gets_more_time_to_end_than_it_takes(objects: Objects) -> None:
    (workload,) = (found for found in objects.of("Deployment") if "router" in found["metadata"]["name"])

    within = float(flags(workload)["--drain-timeout"])

    assert template_of(workload)["spec"]["terminationGracePeriodSeconds"] >= within + 10


@pytest.mark.parametrize("component", ["operator", "router"])
def test_neither_operators_nor_routers_ever_fall_short(chart: Chart, component: str) -> None:
    for values in ({}, EVERYTHING):
        objects = chart.render(values)
        name = f"{values.get('fullnameOverride', 'baton')}-{component}"
        expected = values.get(component, {"replicas": 2, "podDisruptionBudget": {"maxUnavailable": 1}})
        spec = objects.get("Deployment", name)["spec"]
        assert spec["replicas"] == expected["replicas"]
        assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
        budget = objects.get("PodDisruptionBudget", name)["spec"]
        assert budget["maxUnavailable"] == expected["podDisruptionBudget"]["maxUnavailable"]


def test_a_router_accepts_connections_for_as_long_as_endpoints_need_to_forget_it(chart: Chart) -> None:
    assert flags(chart.render().get("Deployment", "baton-router"))["--drain-notice"] == "5"


def test_operators_always_elect_a_leader_for_an_upgrade_starts_a_second_one(objects: Objects) -> None:
    (workload,) = (found for found in objects.of("Deployment") if "operator" in found["metadata"]["name"])

    namespace, _, name = flags(workload)["--lease"].partition("/")

    assert namespace == NAMESPACE
    lease = objects.get("Lease", name)
    assert lease.keys() == {"apiVersion", "kind", "metadata"}, "a spec of the chart's would undo the leader's"


@pytest.mark.parametrize("component", ["operator", "router"])
def test_pods_are_spread_over_nodes_by_their_own_labels(chart: Chart, component: str) -> None:
    workload = chart.render().get("Deployment", f"baton-{component}")

    (constraint,) = template_of(workload)["spec"]["topologySpreadConstraints"]

    assert constraint["topologyKey"] == "kubernetes.io/hostname"
    assert constraint["labelSelector"]["matchLabels"] == workload["spec"]["selector"]["matchLabels"]


@pytest.mark.parametrize("component", ["operator", "router"])
def test_a_constraint_keeps_the_selector_it_was_given(chart: Chart, component: str) -> None:
    workload = chart.render(EVERYTHING).get("Deployment", f"serving-{component}")

    assert (
        template_of(workload)["spec"]["topologySpreadConstraints"] == EVERYTHING[component]["topologySpreadConstraints"]
    )


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({}, "localhost/baton:0.1.0"),
        ({"repository": "registry.example/baton", "tag": "main"}, "registry.example/baton:main"),
        ({"tag": "main", "digest": f"sha256:{'a' * 64}"}, f"localhost/baton@sha256:{'a' * 64}"),
    ],
)
def test_the_image_is_named_by_digest_tag_or_version(chart: Chart, image: dict[str, str], expected: str) -> None:
    objects = chart.render({"image": image, "crds": {"install": False}})

    assert {container["image"] for found in objects.of("Deployment") for container in containers(found)} == {expected}


@pytest.mark.parametrize("component", ["operator", "router"])
def test_settings_of_a_component_reach_its_pods(chart: Chart, component: str) -> None:
    values = EVERYTHING[component]

    workload = chart.render(EVERYTHING).get("Deployment", f"serving-{component}")

    metadata, pod = template_of(workload)["metadata"], template_of(workload)["spec"]
    (container,) = containers(workload)
    assert container["imagePullPolicy"] == "Always"
    assert container["env"] == values["extraEnv"]
    assert container["args"][-len(values["extraArgs"]) :] == values["extraArgs"]
    assert values["extraVolumeMounts"][0] in container["volumeMounts"]
    assert values["extraVolumes"][0] in pod["volumes"]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert {key: pod[key] for key in ("priorityClassName", "nodeSelector", "tolerations", "affinity")} == {
        key: values[key] for key in ("priorityClassName", "nodeSelector", "tolerations", "affinity")
    }
    assert metadata["annotations"] == values["podAnnotations"]
    assert values["podLabels"].items() <= metadata["labels"].items()
    assert flags(workload)["--log-level"] == values["logLevel"]
    assert flags(workload)["--log-format"] == "json"


def test_metrics_are_announced_where_they_are_served(chart: Chart) -> None:
    for workload in chart.render().of("Deployment"):
        annotations = template_of(workload)["metadata"]["annotations"]
        given = flags(workload)
        assert annotations == {
            "prometheus.io/scrape": "true",
            "prometheus.io/path": "/metrics",
            "prometheus.io/port": given.get("--admin-port") or given["--probe-port"],
        }


def test_a_pod_monitor_carries_the_labels_prometheus_looks_for(chart: Chart) -> None:
    monitors = chart.render(VALUE_SETS["cert-manager"]).of("PodMonitor")

    assert len(monitors) == 2
    assert {monitor["metadata"]["labels"]["release"] for monitor in monitors} == {"prometheus"}


def test_a_null_takes_a_security_setting_out(chart: Chart) -> None:
    workload = chart.render({"podSecurityContext": {"runAsUser": None}}).get("Deployment", "baton-operator")

    assert "runAsUser" not in template_of(workload)["spec"]["securityContext"]


def test_the_crds_are_the_generated_ones_and_stay_for_ever(chart: Chart) -> None:
    generated = {path.name: path.read_text() for path in (ROOT / "crds").iterdir()}
    assert {path.name: path.read_text() for path in (CHART / "files" / "crds").iterdir()} == generated, "make generate"
    expected = {}
    for text in generated.values():
        definition = yaml.safe_load(text)
        definition["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
        expected[definition["metadata"]["name"]] = definition

    rendered = chart.render().of("CustomResourceDefinition")

    assert {found["metadata"]["name"]: found for found in rendered} == expected
    assert chart.render({"crds": {"install": False}}).of("CustomResourceDefinition") == []


def test_the_webhook_is_asked_about_our_kinds_and_nothing_else(chart: Chart) -> None:
    objects = chart.render()

    (webhook,) = objects.get("ValidatingWebhookConfiguration", "baton-webhook")["webhooks"]

    definitions = objects.of("CustomResourceDefinition")
    kinds = {
        (found["spec"]["group"], found["spec"]["names"]["plural"], version["name"])
        for found in definitions
        for version in found["spec"]["versions"]
    }
    asked = {
        (group, resource, version)
        for rule in webhook["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for version in rule["apiVersions"]
    }
    assert asked == kinds
    assert all(rule["operations"] == ["CREATE", "UPDATE"] for rule in webhook["rules"])
    assert (webhook["failurePolicy"], webhook["timeoutSeconds"], webhook["sideEffects"]) == ("Ignore", 5, "None")


def test_the_webhook_is_reached_through_its_service(chart: Chart) -> None:
    for values in ({}, VALUE_SETS["cert-manager"]):
        objects = chart.render(values)
        (webhook,) = objects.get("ValidatingWebhookConfiguration", "baton-webhook")["webhooks"]
        asked = webhook["clientConfig"].pop("service")
        service = objects.get("Service", asked["name"])
        assert webhook["clientConfig"] == {}, "a caBundle of the chart's would undo the operator's at every upgrade"
        assert asked["path"] == "/validate"
        assert asked["namespace"] == service["metadata"]["namespace"] == NAMESPACE
        assert asked["port"] in {port["port"] for port in service["spec"]["ports"]}


def test_the_operator_is_told_which_objects_hold_its_certificate(chart: Chart) -> None:
    objects = chart.render()

    given = flags(objects.get("Deployment", "baton-operator"))

    assert given["--webhook-namespace"] == NAMESPACE
    assert given["--webhook-secret"] in objects.names("Secret")
    assert given["--webhook-service"] in objects.names("Service")
    assert given["--webhook-configuration"] in objects.names("ValidatingWebhookConfiguration")
    assert objects.get("Secret", given["--webhook-secret"]).keys() == {"apiVersion", "kind", "metadata", "type"}, (
        "data of the chart's would undo the operator's at every upgrade"
    )


@pytest.mark.parametrize(
    ("values", "issuer"),
    [
        ("cert-manager", {"kind": "Issuer", "name": "baton-webhook"}),
        ("issuer", {"kind": "ClusterIssuer", "name": "ours"}),
    ],
)
def test_cert_manager_makes_the_certificate_that_the_operator_mounts(
    chart: Chart, values: str, issuer: dict[str, str]
) -> None:
    objects = chart.render(VALUE_SETS[values])

    certificate = objects.get("Certificate", "baton-webhook")
    workload = objects.get("Deployment", "baton-operator")
    (volume,) = (found for found in template_of(workload)["spec"]["volumes"] if "secret" in found)
    (container,) = containers(workload)
    (mount,) = (found for found in container["volumeMounts"] if found["name"] == volume["name"])
    configuration = objects.get("ValidatingWebhookConfiguration", "baton-webhook")
    assert certificate["spec"]["issuerRef"] == issuer
    assert ("baton-webhook" in objects.names("Issuer")) == (issuer["kind"] == "Issuer")
    assert certificate["spec"]["dnsNames"] == [f"baton-webhook.{NAMESPACE}.svc"]
    assert volume["secret"]["secretName"] == certificate["spec"]["secretName"]
    assert flags(workload)["--webhook-certificate"] == mount["mountPath"]
    assert "--webhook-secret" not in flags(workload)
    assert configuration["metadata"]["annotations"] == {
        "cert-manager.io/inject-ca-from": f"{NAMESPACE}/{certificate['metadata']['name']}"
    }


def test_without_the_webhook_nothing_of_it_is_left(chart: Chart) -> None:
    objects = chart.render({"webhook": {"enabled": False}})

    assert objects.of("ValidatingWebhookConfiguration", "Secret") == []
    assert objects.names("Service") == {"baton-router"}
    assert not any("webhook" in flag for flag in flags(objects.get("Deployment", "baton-operator")))
