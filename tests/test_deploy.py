"""The files of the question ``deploy``: valid, and in agreement with the service."""

import itertools
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import manifests
import pytest
import yaml
from conftest import ALL_VARIANTS, Covers, Run
from history import MakeProject, commit, edit, first, update
from manifests import CHOICES, Document, changed, emit, read
from prometheus_client.parser import text_string_to_metric_families
from promql import named

from inferplate.git import Git
from inferplate.project.project import Project
from inferplate.template.render import render
from inferplate.template.source import template_root
from inferplate.template.variants import Variant
from inferplate_tools.client import ask, post_json
from inferplate_tools.golden import Golden
from inferplate_tools.service import Service
from inferplate_tools.verify.hygiene import problems
from inferplate_tools.workbench import Workbench

RUNTIMES = list(dict.fromkeys(variant.runtime for variant in ALL_VARIANTS))
FOLDERS = {
    "compose": {"grafana", "prometheus"},
    "kubernetes": {"kubernetes"},
    "kserve": {"kserve"},
    "ray": {"ray"},
}
ALTERNATIVES = {
    "model": ["model-volume", "model-storage", "model-mlflow", "model-oci"],
    "replicas": ["autoscale-hpa"],
    "keys": ["api-keys"],
}
"""Components that the overlay does not name, by what they are about."""

needs_kubectl = pytest.mark.skipif(
    manifests.KUBECTL is None, reason="no kubectl with kustomize 4 or newer"
)


@pytest.fixture(scope="module")
def custom() -> dict[tuple[str, str], Document]:
    """Return the schemas of custom resources."""
    found = manifests.definitions()
    if not found:
        pytest.skip(f"{manifests.SCHEMAS} does not name a folder with schemas of custom resources")
    return found


@pytest.fixture(scope="module", params=RUNTIMES)
def project(
    request: pytest.FixtureRequest, bench: Workbench, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Emit a service of each runtime, which manifests depend on."""
    destination = tmp_path_factory.mktemp("deploy") / request.param
    return emit(bench.template(), destination, runtime=request.param)


@pytest.fixture(scope="module")
def one(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Emit one service."""
    return emit(bench.template(), tmp_path_factory.mktemp("deploy") / "one")


@pytest.fixture(scope="module")
def built(one: Path) -> list[Document]:
    """Build the overlay for Kubernetes."""
    return manifests.build(one / "deploy/kubernetes/overlays/production")


@pytest.fixture(scope="module")
def built_for_kserve(one: Path) -> list[Document]:
    """Build the overlay for KServe."""
    return manifests.build(one / "deploy/kserve/overlays/production")


@pytest.mark.parametrize(
    "chosen",
    [list(some) for count in range(5) for some in itertools.combinations(CHOICES, count)],
    ids=",".join,
)
def test_each_choice_emits_its_own_files(
    chosen: list[str], bench: Workbench, tmp_path: Path
) -> None:
    project = render(bench.template(), tmp_path / "service", {"deploy": chosen})
    found = {path.name for path in (project / "deploy").glob("*")}
    assert found == set().union(*(FOLDERS[choice] for choice in chosen))
    assert (project / "deploy").exists() == bool(chosen)
    assert (project / "compose.yaml").exists() == ("compose" in chosen)
    readme = (project / "README.md").read_text(encoding="utf-8")
    for choice in ("kubernetes", "kserve", "ray"):
        assert (f"deploy/{choice}" in readme) == (choice in chosen)
    assert problems(project) == []


@pytest.mark.parametrize("name", ["3D viewer", "service", "b" * 80, "a" * 39 + " b"])
def test_any_name_of_a_service_gives_objects_a_name(
    name: str, template: Path, tmp_path: Path
) -> None:
    project = emit(template, tmp_path / "service", project_name=name)
    for path in (project / "deploy").rglob("*.yaml"):
        if "metadata" in (document := read(path)):
            assert re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", document["metadata"]["name"])


def test_kustomizations_name_every_file_and_patch_what_is_there(project: Path) -> None:
    for folder in ("kubernetes", "kserve"):
        assert len(manifests.kustomizations(project / "deploy" / folder)) >= 3
        assert [*manifests.problems_of_kustomizations(project / "deploy" / folder)] == []


def test_every_file_follows_the_schemas(
    project: Path, custom: dict[tuple[str, str], Document]
) -> None:
    assert [*manifests.invalid(objects(project), custom)] == []


def test_every_file_of_kubernetes_own_kinds_follows_their_schemas(project: Path) -> None:
    assert [*manifests.invalid(objects(project), {})] == []


def objects(project: Path) -> Iterator[Document]:
    for path in (project / "deploy").rglob("*.yaml"):
        if "metadata" in (document := read(path)):
            yield document


@needs_kubectl
def test_overlays_agree_with_the_service_and_follow_the_schemas(
    project: Path, covers: Covers
) -> None:
    covers("manifests: built, validated, compared with the service", project.name, len(RUNTIMES))
    custom = manifests.definitions()
    documents = manifests.build(project / "deploy/kubernetes/overlays/production")
    pods = manifests.deployed(documents)
    assert [*manifests.problems_of_objects(documents, project)] == []
    assert [*manifests.problems_of_pods(pods, project)] == []
    assert {each["metadata"]["namespace"] for each in documents} == {"inference-service"}
    kserve = manifests.build(project / "deploy/kserve/overlays/production")
    assert [*manifests.problems_of_pods(manifests.served_by_kserve(kserve), project)] == []
    assert [*manifests.invalid([*documents, *kserve], custom)] == []
    limits = read(project / "compose.yaml")["services"]["service"]
    for found in (pods, manifests.served_by_kserve(kserve)):
        resources = found.container["resources"]["limits"]
        assert float(resources["cpu"]) == limits["cpus"]
        assert resources["memory"] == limits["mem_limit"].replace("g", "Gi")
        assert found.grace == manifests.seconds(limits["stop_grace_period"])
        assert found.container["image"] == "registry.example.com/inference-service:0.1.0"


def test_the_settings_of_the_image_and_of_the_pods_are_the_same(one: Path) -> None:
    dockerfile = (one / "Dockerfile").read_text(encoding="utf-8")
    of_image = dict(re.findall(r"(SERVICE_\w+)=(\S+)", dockerfile))
    lines = (one / "deploy/kubernetes/base/settings.env").read_text(encoding="utf-8").splitlines()
    of_pods = dict(line.split("=") for line in lines if not line.startswith("#"))
    runtime = read(one / "deploy/kserve/base/servingruntime.yaml")["spec"]["containers"][0]
    assert of_image.items() <= of_pods.items()
    assert {each["name"]: each["value"] for each in runtime["env"]} == of_pods


@needs_kubectl
@pytest.mark.parametrize(
    ("about", "component"),
    [(about, each) for about, some in ALTERNATIVES.items() for each in some],
    ids=lambda value: value,
)
def test_each_component_makes_a_valid_deployment(about: str, component: str, one: Path) -> None:
    overlay = one / "deploy/kubernetes/overlays" / component
    overlay.mkdir()
    document = read(overlay.parent / "production/kustomization.yaml")
    named = [each for each in document["components"] if about != "replicas" or "keda" not in each]
    document["components"] = [*named, f"../../components/{component}"]
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    documents = manifests.build(overlay)
    assert [*manifests.invalid(documents, manifests.definitions())] == []
    assert [*manifests.problems_of_objects(documents, one)] == []
    assert [*manifests.problems_of_pods(manifests.deployed(documents), one)] == []
    pods = manifests.deployed(documents)
    if about == "model":
        (mount,) = (each for each in pods.container["volumeMounts"] if each["name"] == "model")
        assert mount["readOnly"], "the service does not write its model"
    for fetch in pods.spec.get("initContainers", []):
        assert re.search(r":v\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?$", fetch["image"])
        assert manifests.of_kind(documents, "NetworkPolicy")["spec"]["egress"]


@needs_kubectl
def test_the_autoscaler_asks_for_the_namespace_of_the_overlay(one: Path) -> None:
    overlay = one / "deploy/kubernetes/overlays/staging"
    overlay.mkdir()
    document = read(overlay.parent / "production/kustomization.yaml")
    document["namespace"] = "staging"
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    scaled = manifests.of_kind(manifests.build(overlay), "ScaledObject")["spec"]
    for trigger in scaled["triggers"]:
        labels = dict(re.findall(r'(\w+)="([^"]*)"', trigger["metadata"]["query"]))
        assert labels == {"namespace": "staging", "service": "inference-service"}


@needs_kubectl
def test_kserve_puts_a_stored_model_where_the_service_looks(
    one: Path, custom: dict[tuple[str, str], Document]
) -> None:
    overlay = one / "deploy/kserve/overlays/stored"
    overlay.mkdir()
    document = read(overlay.parent / "production/kustomization.yaml")
    document["components"] = ["../../components/model-storage"]
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    documents = manifests.build(overlay)
    assert [*manifests.invalid(documents, custom)] == []
    pods = manifests.served_by_kserve(documents)
    assert pods.settings.model_dir == Path("/mnt/models")
    model = manifests.of_kind(documents, "InferenceService")["spec"]["predictor"]["model"]
    assert model["storageUri"].startswith("s3://")


@needs_kubectl
def test_kserve_finds_the_runtime_by_its_name_and_format(built_for_kserve: list[Document]) -> None:
    runtime = manifests.of_kind(built_for_kserve, "ServingRuntime")
    model = manifests.of_kind(built_for_kserve, "InferenceService")["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert [model["protocolVersion"]] == runtime["spec"]["protocolVersions"] == ["v2"]
    (known,) = runtime["spec"]["supportedModelFormats"]
    assert model["modelFormat"].items() <= known.items()


def test_ray_serves_what_the_files_and_the_settings_say(project: Path) -> None:
    configuration, documents = of_ray(project)
    assert [*manifests.problems_of_ray(configuration, documents, project)] == []
    _, settings = manifests.served_by_ray(configuration)
    assert settings.workers > 1, "one that ends has another beside it"
    (name,) = (each["name"] for each in configuration["applications"])
    assert name == documents[0]["metadata"]["name"]


def of_ray(project: Path) -> tuple[Document, list[Document]]:
    folder = project / "deploy/ray"
    return read(folder / "serve.yaml"), [read(folder / "rayservice.yaml")]


FIELD = "spec.template.spec.containers.0."
LABEL = "app~kubernetes~io/name"
MISSPELT: dict[str, tuple[str, str, Any]] = {
    "a misspelt probe": ("Deployment", f"{FIELD}readynessProbe", {}),
    "a text for a number": ("Deployment", "spec.template.spec.terminationGracePeriodSeconds", "45"),
    "a misspelt port": ("Service", "spec.ports.0.targetport", "http"),
    "a misspelt budget": ("PodDisruptionBudget", "spec.maxUnavailabel", 1),
    "a misspelt policy": ("NetworkPolicy", "spec.policytypes", ["Egress"]),
}
MISSPELT_CUSTOM: dict[str, tuple[str, str, Any]] = {
    "a misspelt limit": ("ScaledObject", "spec.maxReplicas", 3),
    "a trigger without a type": ("ScaledObject", "spec.triggers.0.type", None),
    "a misspelt interval": ("ServiceMonitor", "spec.endpoints.0.intervall", "10s"),
    "a misspelt format": ("ServingRuntime", "spec.supportedModelFormats.0.autoselect", True),
    "a text for a port": ("ServingRuntime", "spec.containers.0.ports.0.containerPort", "8000"),
    "a misspelt address": ("InferenceService", "spec.predictor.model.storageURI", "s3://a/b"),
    "a field of a Deployment": ("InferenceService", "spec.predictor.replicas", 2),
}
DISAGREEING: dict[str, tuple[str, str, Any]] = {
    "another port": ("ConfigMap", "data.SERVICE_PORT", "8001"),
    "another port of the container": ("Deployment", f"{FIELD}ports.0.containerPort", 8080),
    "a probe of another port": ("Deployment", f"{FIELD}livenessProbe.httpGet.port", 8001),
    "a probe of another path": ("Deployment", f"{FIELD}readinessProbe.httpGet.path", "/healthz"),
    "liveness that asks readiness": (
        "Deployment",
        f"{FIELD}livenessProbe.httpGet.path",
        "/v2/health/ready",
    ),
    "a Service of another port": ("Service", "spec.ports.0.targetPort", "web"),
    "a policy of another port": ("NetworkPolicy", "spec.ingress.0.ports.0.port", "web"),
    "a Service of other pods": ("Service", f"spec.selector.{LABEL}", "other"),
    "a budget of other pods": ("PodDisruptionBudget", f"spec.selector.matchLabels.{LABEL}", "no"),
    "a policy of other pods": ("NetworkPolicy", f"spec.podSelector.matchLabels.{LABEL}", "no"),
    "a monitor of no Service": ("ServiceMonitor", f"spec.selector.matchLabels.{LABEL}", "no"),
    "a monitor of another port": ("ServiceMonitor", "spec.endpoints.0.port", "metrics"),
    "a grace that is too short": (
        "Deployment",
        "spec.template.spec.terminationGracePeriodSeconds",
        30,
    ),
    "a longer drain": ("ConfigMap", "data.SERVICE_DRAIN_DELAY", "15"),
    "a drain that nobody notices": ("ConfigMap", "data.SERVICE_DRAIN_DELAY", "1"),
    "an eager liveness probe": ("Deployment", f"{FIELD}livenessProbe.failureThreshold", 3),
    "an eager startup probe": ("Deployment", f"{FIELD}startupProbe.failureThreshold", 3),
    "half a CPU": ("Deployment", f"{FIELD}resources.limits.cpu", "0.5"),
    "more requested than given": ("Deployment", f"{FIELD}resources.requests.memory", "4Gi"),
    "more workers than CPUs": ("ConfigMap", "data.SERVICE_WORKERS", "2"),
    "loopback": ("ConfigMap", "data.SERVICE_HOST", "127.0.0.1"),
    "root": ("Deployment", "spec.template.spec.securityContext.runAsUser", 0),
    "another user than the image": (
        "Deployment",
        "spec.template.spec.securityContext.runAsUser",
        1000,
    ),
    "a writable root": (
        "Deployment",
        f"{FIELD}securityContext.readOnlyRootFilesystem",
        False,
    ),
    "no /tmp": ("Deployment", f"{FIELD}volumeMounts", []),
    "a token": ("Deployment", "spec.template.spec.automountServiceAccountToken", True),
    "no account": ("Deployment", "spec.template.spec.serviceAccountName", "default"),
    "fewer replicas in an update": ("Deployment", "spec.strategy.rollingUpdate.maxUnavailable", 1),
    "replicas beside an autoscaler": ("Deployment", "spec.replicas", 2),
    "an autoscaler of another": ("ScaledObject", "spec.scaleTargetRef.name", "other"),
}
DISAGREEING_KSERVE: dict[str, tuple[str, str, Any]] = {
    "a grace that is too short": (
        "InferenceService",
        "spec.predictor.terminationGracePeriodSeconds",
        30,
    ),
    "another port": ("ServingRuntime", "spec.containers.0.ports.0.containerPort", 8080),
    "a probe of another port": (
        "ServingRuntime",
        "spec.containers.0.readinessProbe.httpGet.port",
        8080,
    ),
    "a token": ("InferenceService", "spec.predictor.automountServiceAccountToken", None),
}


WORKER = "spec.rayClusterConfig.workerGroupSpecs.0."
RAY_POD = f"{WORKER}template.spec."
MISSPELT_RAY: dict[str, tuple[str, str, Any]] = {
    "a misspelt configuration": ("RayService", "spec.serveConfigv2", ""),
    "a text for replicas": ("RayService", f"{WORKER}minReplicas", "2"),
    "a group without a name": ("RayService", f"{WORKER}groupName", None),
    "a misspelt probe": ("RayService", f"{RAY_POD}containers.0.readynessProbe", {}),
    "an unknown mode": ("RayService", "spec.rayClusterConfig.authOptions.mode", "off"),
}
DISAGREEING_RAY: dict[str, tuple[str, str, Any]] = {
    "a short grace": ("RayService", f"{RAY_POD}terminationGracePeriodSeconds", 30),
    "another port": ("RayService", f"{RAY_POD}containers.0.ports.0.containerPort", 8080),
    "a probe of another port": (
        "RayService",
        f"{RAY_POD}containers.0.readinessProbe.httpGet.port",
        8080,
    ),
    "another image": ("RayService", f"{RAY_POD}containers.0.image", "other"),
    "another version of Ray": ("RayService", "spec.rayClusterConfig.rayVersion", "2.9.0"),
    "root": ("RayService", f"{RAY_POD}securityContext.runAsUser", 0),
    "no /tmp": ("RayService", f"{RAY_POD}containers.0.volumeMounts", []),
    "more requested than given": (
        "RayService",
        f"{RAY_POD}containers.0.resources.requests.cpu",
        "4",
    ),
    "a writable root": (
        "RayService",
        f"{RAY_POD}containers.0.securityContext.readOnlyRootFilesystem",
        False,
    ),
    "too few pods": ("RayService", f"{WORKER}maxReplicas", 3),
    "pods that stay as many": (
        "RayService",
        "spec.rayClusterConfig.enableInTreeAutoscaling",
        False,
    ),
    "no token": ("RayService", "spec.rayClusterConfig.authOptions.mode", "disabled"),
    "replicas on the head": (
        "RayService",
        "spec.rayClusterConfig.headGroupSpec.rayStartParams.num-cpus",
        "2",
    ),
    "another configuration": ("RayService", "spec.serveConfigV2", "applications: []"),
}
DISAGREEING_SERVE: dict[str, tuple[str, Any]] = {
    "loopback": ("http_options.host", "127.0.0.1"),
    "impatient proxies": ("http_options.request_timeout_s", 30),
    "short keep-alive": ("http_options.keep_alive_timeout_s", 5),
    "another port": ("http_options.port", 8001),
    "no such module": ("applications.0.import_path", "app:app"),
    "no such function": ("applications.0.import_path", "application:application_"),
    "a longer drain": ("applications.0.runtime_env.env_vars.SERVICE_DRAIN_DELAY", "15"),
    "more replicas": ("applications.0.runtime_env.env_vars.SERVICE_RAY_MAX_REPLICAS", "50"),
    "larger replicas": ("applications.0.runtime_env.env_vars.SERVICE_THREADS", "4"),
}


@pytest.mark.parametrize("fault", MISSPELT_RAY.values(), ids=MISSPELT_RAY)
def test_a_misspelt_field_of_a_rayservice_is_noticed(
    fault: tuple[str, str, Any], one: Path, custom: dict[tuple[str, str], Document]
) -> None:
    _, documents = of_ray(one)
    assert len([*manifests.invalid(changed(documents, *fault), custom)]) == 1


@pytest.mark.parametrize("fault", DISAGREEING_RAY.values(), ids=DISAGREEING_RAY)
def test_a_rayservice_that_disagrees_is_noticed(fault: tuple[str, str, Any], one: Path) -> None:
    configuration, documents = of_ray(one)
    found = manifests.problems_of_ray(configuration, changed(documents, *fault), one)
    assert [*found]


@pytest.mark.parametrize("fault", DISAGREEING_SERVE.values(), ids=DISAGREEING_SERVE)
def test_a_configuration_of_ray_that_disagrees_is_noticed(
    fault: tuple[str, Any], one: Path
) -> None:
    configuration, documents = of_ray(one)
    (altered,) = changed([{"kind": "", **configuration}], "", *fault)
    del altered["kind"]
    spec = changed(documents, "RayService", "spec.serveConfigV2", yaml.safe_dump(altered))
    assert [*manifests.problems_of_ray(altered, spec, one)]


@needs_kubectl
@pytest.mark.parametrize("fault", MISSPELT.values(), ids=MISSPELT)
def test_a_misspelt_field_is_noticed(fault: tuple[str, str, Any], built: list[Document]) -> None:
    assert len([*manifests.invalid(changed(built, *fault), {})]) == 1


@needs_kubectl
@pytest.mark.parametrize("fault", MISSPELT_CUSTOM.values(), ids=MISSPELT_CUSTOM)
def test_a_misspelt_field_of_a_custom_resource_is_noticed(
    fault: tuple[str, str, Any],
    built: list[Document],
    built_for_kserve: list[Document],
    custom: dict[tuple[str, str], Document],
) -> None:
    documents = changed([*built, *built_for_kserve], *fault)
    assert len([*manifests.invalid(documents, custom)]) == 1


@needs_kubectl
@pytest.mark.parametrize("fault", DISAGREEING.values(), ids=DISAGREEING)
def test_what_disagrees_with_the_service_is_noticed(
    fault: tuple[str, str, Any], built: list[Document], one: Path
) -> None:
    documents = changed(built, *fault)
    found = [
        *manifests.problems_of_objects(documents, one),
        *manifests.problems_of_pods(manifests.deployed(documents), one),
    ]
    assert found


@needs_kubectl
@pytest.mark.parametrize("fault", DISAGREEING_KSERVE.values(), ids=DISAGREEING_KSERVE)
def test_what_disagrees_under_kserve_is_noticed(
    fault: tuple[str, str, Any], built_for_kserve: list[Document], one: Path
) -> None:
    documents = changed(built_for_kserve, *fault)
    assert [*manifests.problems_of_pods(manifests.served_by_kserve(documents), one)]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("base/kustomization.yaml", "  - service.yaml\n", ""),
        ("base/kustomization.yaml", "  - service.yaml\n", "  - services.yaml\n"),
        ("components/api-keys/kustomization.yaml", "kind: Deployment", "kind: StatefulSet"),
        ("components/prometheus/kustomization.yaml", "kind: NetworkPolicy", "kind: Policy"),
        ("overlays/production/kustomization.yaml", "components/prometheus", "components/metrics"),
    ],
)
def test_a_kustomization_that_leads_nowhere_is_noticed(
    name: str, old: str, new: str, template: Path, tmp_path: Path
) -> None:
    folder = emit(template, tmp_path / "service") / "deploy/kubernetes"
    text = (folder / name).read_text(encoding="utf-8")
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")
    assert [*manifests.problems_of_kustomizations(folder)]


def triggers(project: Path) -> dict[str, Document]:
    path = project / "deploy/kubernetes/components/autoscale-keda/scaledobject.yaml"
    return {each["name"]: each["metadata"] for each in read(path)["spec"]["triggers"]}


@pytest.mark.slow
def test_the_service_answers_what_pods_are_asked_and_has_the_metrics(
    one: Path, copy_of: Callable[[Variant], Path], bench: Workbench
) -> None:
    deployment = read(one / "deploy/kubernetes/base/deployment.yaml")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    monitor = read(one / "deploy/kubernetes/components/prometheus/servicemonitor.yaml")
    (scraped,) = monitor["spec"]["endpoints"]
    wanted = {name for each in triggers(one).values() for name in named(each["query"]).metrics}
    (routes,) = re.findall(r'route=~"([^"]+)"', triggers(one)["p95"]["query"])
    project = copy_of(ALL_VARIANTS[0])
    golden = Golden.of(project)
    with Service(project, bench.python, {"SERVICE_THREADS": "1"}) as service:
        service.wait_ready()
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert ask(service.port, "GET", container[probe]["httpGet"]["path"]).status == 200
        post_json(service.port, "/predict", golden.typed_request)
        post_json(service.port, golden.infer_path, golden.infer_request)
        page = ask(service.port, "GET", scraped["path"]).body.decode()
    samples = [
        sample for family in text_string_to_metric_families(page) for sample in family.samples
    ]
    assert wanted == {"inference_queue_rows", "http_request_duration_seconds_bucket"}
    assert wanted <= {sample.name for sample in samples}
    measured = {sample.labels["route"] for sample in samples if "route" in sample.labels}
    assert sum(re.fullmatch(routes, route) is not None for route in measured) == 2


def test_the_triggers_are_numbers_that_grow_with_the_load(one: Path, tmp_path: Path) -> None:
    labels = 'namespace="default",service="inference-service"'
    bucket = f'http_request_duration_seconds_bucket{{{labels},route="/predict",le="%s"}}'
    queue = [f'inference_queue_rows{{{labels},pod="{pod}"}}' for pod in "ab"]
    cases: list[tuple[str, dict[str, str], float]] = [
        ("queue", dict.fromkeys(queue, "0x10"), 0),
        ("queue", dict.fromkeys(queue, "40x10"), 80),
        ("p95", {bucket % "1": "0x10", bucket % "+Inf": "0x10"}, 0),
        ("p95", {bucket % "1": "0+100x10", bucket % "+Inf": "0+100x10"}, 0.95),
        (
            "p95",
            {bucket % "1": "0+90x10", bucket % "5": "0+100x10", bucket % "+Inf": "0+100x10"},
            3,
        ),
        ("p95", {}, 0),
    ]
    tests = [
        {
            "interval": "15s",
            "input_series": [{"series": name, "values": text} for name, text in series.items()],
            "promql_expr_test": [
                {
                    "expr": f"round({triggers(one)[trigger]['query']}, 0.01)",
                    "eval_time": "2m",
                    "exp_samples": [{"labels": "{}", "value": value}],
                }
            ],
        }
        for trigger, series, value in cases
    ]
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump({"tests": tests}), encoding="utf-8")
    command = ["promtool", "test", "rules", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


BASE = "deploy/kubernetes/base"


def test_an_update_brings_the_files_and_takes_them_away_again(make_project: MakeProject) -> None:
    project = make_project()
    plan = update(project, deploy="compose,kubernetes,kserve,ray")
    assert plan.conflicts == {}
    assert Project.read(project).answers["deploy"] == ["compose", "kubernetes", "kserve", "ray"]
    assert (project / f"{BASE}/deployment.yaml").exists()
    assert (project / "deploy/kserve").exists()
    assert (project / "deploy/ray/application.py").exists()
    assert (project / "compose.yaml").exists()
    commit(Git(project), "with Kubernetes")
    edit(project, {f"{BASE}/settings.env": first("# mine")})
    commit(Git(project), "mine")
    plan = update(project, deploy="compose")
    assert plan.conflicts == {}
    assert not (project / f"{BASE}/deployment.yaml").exists()
    assert not (project / "deploy/kserve").exists()
    assert not (project / "deploy/ray").exists()
    assert (project / "deploy/prometheus/alerts.yml").exists()
    kept = (project / f"{BASE}/settings.env").read_text(encoding="utf-8")
    assert kept.startswith("# mine\n"), "an edit is not lost"


def test_files_of_ones_own_in_their_place_survive(make_project: MakeProject) -> None:
    project = make_project()
    edit(project, {f"{BASE}/service.yaml": first("# mine"), "deploy/own.yaml": first("# mine")})
    commit(Git(project), "mine")
    plan = update(project, deploy="compose,kubernetes")
    assert plan.conflicts.keys() == {f"{BASE}/service.yaml"}
    for name in (f"{BASE}/service.yaml", "deploy/own.yaml"):
        assert "# mine" in (project / name).read_text(encoding="utf-8")


@needs_kubectl
@pytest.mark.parametrize("choice", ["kubernetes", "kserve"])
def test_the_page_names_what_is_emitted(
    choice: str, inferplate: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (template_root() / f"docs/{choice}.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    commands = [shlex.split(line) for line in block.splitlines()]
    (new,) = (words[1:] for words in commands if words[0] == "inferplate")
    monkeypatch.chdir(tmp_path)
    assert inferplate(*new)[0] == 0
    project = tmp_path / new[1]
    folder = project / "deploy" / choice
    (applied,) = (words[-1] for words in commands if words[1:3] == ["apply", "-k"])
    documents = manifests.build(project / applied)
    assert {each["metadata"]["namespace"] for each in documents} == {
        words[words.index(before) + 1]
        for words in commands
        for before in ("namespace", "-n")
        if before in words
    }
    asked = {word for words in commands for word in words if "/" in word and words[1] == "-n"}
    assert asked <= {f"{each['kind'].lower()}/{each['metadata']['name']}" for each in documents}
    pushed = {words[-1].removeprefix("IMAGE=") for words in commands if "push" in words}
    assert pushed == {words[-1].removeprefix("IMAGE=") for words in commands if "make" in words}
    assert f"{pushed.pop()}" in str(documents)
    for name in re.findall(r"`((?:base|overlays)/\S+)`", page):
        assert (folder / name).is_file()
    components = {path.name for path in (folder / "components").iterdir()}
    assert components == set(re.findall(r"`((?:api|autoscale|model)-\w+|prometheus)`", page))
    grace = re.search(r"is killed after (\d+)", page)
    if choice == "kubernetes":
        assert grace
        assert float(grace[1]) == manifests.deployed(documents).grace


def test_the_page_of_ray_names_what_is_emitted(
    inferplate: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (template_root() / "docs/ray.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    commands = [shlex.split(line) for block in blocks for line in block.splitlines()]
    (new,) = (words[1:] for words in commands if words[0] == "inferplate")
    monkeypatch.chdir(tmp_path)
    assert inferplate(*new)[0] == 0
    project = tmp_path / new[1]
    (applied,) = (words[-1] for words in commands if words[1:3] == ["apply", "-f"])
    (pushed,) = (words[-1] for words in commands if "push" in words)
    assert f"image: {pushed}\n" in (project / applied).read_text(encoding="utf-8")
    (made,) = (words[-1] for words in commands if "ray-image" in words)
    assert made == f"RAY_IMAGE={pushed}"
    for name in re.findall(r"`(?:serve deploy )?((?:deploy/ray/)?\w+\.(?:py|yaml))`", page):
        assert (project / "deploy/ray" / Path(name).name).is_file()
    readme = (project / "README.md").read_text(encoding="utf-8")
    application = (project / "deploy/ray/application.py").read_text(encoding="utf-8")
    own = {
        name.upper() for name in re.findall(r"^    (\w+): .* = Field\($", application, re.MULTILINE)
    }
    assert own == set(re.findall(r"SERVICE_RAY_(\w+)", readme))
    assert len(own) == 4
