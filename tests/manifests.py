"""Manifests of Kubernetes: built, checked against schemas, and for what schemas do not say."""

import copy
import functools
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jsonschema
import kubernetes_validate
import yaml

from inferplate.template.render import render
from service.ops.process import EXIT_MARGIN
from service.ops.settings import PREFIX, Settings

CHOICES: Final = ["compose", "kubernetes", "kserve", "ray"]
KUBERNETES: Final = "1.37"
CUSTOM: Final = {
    "ScaledObject": "keda.sh_scaledobjects.yaml",
    "PrometheusRule": "monitoring.coreos.com_prometheusrules.yaml",
    "ServiceMonitor": "monitoring.coreos.com_servicemonitors.yaml",
    "ServingRuntime": "serving.kserve.io_servingruntimes.yaml",
    "InferenceService": "serving.kserve.io_inferenceservices.yaml",
    "RayService": "ray.io_rayservices.yaml",
}
"""The files with the definitions of custom resources, by kind."""
SCHEMAS: Final = "INFERPLATE_SCHEMAS"
"""The variable that names the folder of these files."""

Document = dict[str, Any]


def emit(template: Path, destination: Path, **answers: Any) -> Path:
    """Render a service with all files of deployments."""
    return render(template, destination, {"deploy": CHOICES, **answers})


def read(path: Path) -> Document:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    document: Document = yaml.load(path.read_bytes(), loader)  # noqa: S506 - a safe loader
    return document


def build(folder: Path) -> list[Document]:
    """Return what ``kubectl kustomize`` makes of a folder.

    Raises:
        CalledProcessError: it makes nothing of it.
    """
    command = [KUBECTL or "kubectl", "kustomize", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def _with_components() -> str | None:
    """Return the path of a kubectl that knows kustomize's components, if there is one."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        return None
    command = [kubectl, "version", "--client", "--output=json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = yaml.safe_load(done.stdout) if done.returncode == 0 else None
    return kubectl if found and "kustomizeVersion" in found else None


KUBECTL: Final = _with_components()


@functools.cache
def definitions() -> dict[tuple[str, str], Document]:
    """Read the schemas of custom resources, closed, by API version and kind; none without files."""
    found: dict[tuple[str, str], Document] = {}
    folder = os.environ.get(SCHEMAS)
    for kind, name in CUSTOM.items() if folder else ():
        spec = read(Path(str(folder), name))["spec"]
        assert spec["names"]["kind"] == kind
        for version in spec["versions"]:
            schema = closed(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            found[f"{spec['group']}/{version['name']}", kind] = schema
    return found


def closed(schema: Any) -> Any:
    """Return a schema of OpenAPI as JSON Schema that refuses unknown fields."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        key: {name: closed(each) for name, each in value.items()}
        if key == "properties"
        else closed(value)
        for key, value in schema.items()
    }
    if "properties" in made and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    if made.get("nullable") and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    if made.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    return made


def invalid(
    documents: Iterable[Document], custom: dict[tuple[str, str], Document]
) -> Iterator[str]:
    """Describe what does not follow the schemas, strictly; custom resources if there are any."""
    for document in documents:
        name = f"{document['kind']} {document['metadata']['name']}"
        try:
            if document["kind"] not in CUSTOM:
                kubernetes_validate.validate(document, KUBERNETES, strict=True)
            elif custom:
                schema = custom[document["apiVersion"], document["kind"]]
                jsonschema.Draft202012Validator(schema).validate(document)
        except jsonschema.ValidationError as error:
            where = ".".join(map(str, error.absolute_path))
            yield f"{name}: {where}: {error.message[:200]}"


@dataclass(frozen=True)
class Pods:
    """The pods of one workload: what stands in their specification, and the service's settings."""

    spec: Document
    container: Document
    settings: Settings

    @property
    def grace(self) -> float:
        """Seconds from SIGTERM to SIGKILL."""
        return float(self.spec["terminationGracePeriodSeconds"])

    @property
    def volumes(self) -> dict[str, Document]:
        return {each["name"]: each for each in self.spec.get("volumes", [])}

    @property
    def mounts(self) -> dict[str, str]:
        """Names of volumes by where the service finds them."""
        mounts = self.container.get("volumeMounts", [])
        return {each["mountPath"]: each["name"] for each in mounts}


def of_kind(documents: Iterable[Document], kind: str) -> Document:
    (found,) = (each for each in documents if each["kind"] == kind)
    return found


def deployed(documents: list[Document]) -> Pods:
    """Return the pods of the Deployment."""
    spec = of_kind(documents, "Deployment")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    return Pods(spec, container, _settings(of_kind(documents, "ConfigMap")["data"]))


def served_by_kserve(documents: list[Document]) -> Pods:
    """Return the pods that KServe makes of a runtime and a service."""
    runtime = of_kind(documents, "ServingRuntime")["spec"]
    predictor = of_kind(documents, "InferenceService")["spec"]["predictor"]
    (container,) = runtime["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    return Pods({**runtime, **predictor}, container, _settings(variables))


def _settings(variables: dict[str, str]) -> Settings:
    known = {f"{PREFIX}{name}".upper(): name for name in Settings.model_fields}
    assert variables.keys() <= known.keys(), variables.keys() - known.keys()
    given: dict[str, Any] = {known[name]: text for name, text in variables.items()}
    return Settings(**given)


def served_by_ray(configuration: Document) -> tuple[Document, Settings]:
    """Return the variables of the application that Ray serves, and the service's settings."""
    (application,) = configuration["applications"]
    variables: Document = application["runtime_env"]["env_vars"]
    own = {name: text for name, text in variables.items() if name.startswith(f"{PREFIX}RAY_")}
    return own, _settings({name: variables[name] for name in variables.keys() - own.keys()})


def problems_of_ray(
    configuration: Document, documents: list[Document], project: Path
) -> Iterator[str]:
    """Describe where serve.yaml and the RayService disagree with each other and the service."""
    service = of_kind(documents, "RayService")["spec"]
    if yaml.safe_load(service["serveConfigV2"]) != configuration:
        yield "serveConfigV2 is not serve.yaml"
    own, settings = served_by_ray(configuration)
    (application,) = configuration["applications"]
    module, _, name = application["import_path"].partition(":")
    source = project / "deploy/ray" / f"{module}.py"
    if not source.is_file() or f"def {name}(" not in source.read_text(encoding="utf-8"):
        yield f"there is no {application['import_path']}"
    http = configuration["http_options"]
    if http["host"] != "0.0.0.0":  # noqa: S104 - of a container
        yield f"proxies listen on {http['host']}"
    if http["request_timeout_s"] <= settings.request_timeout:
        yield "proxies give requests up before the service does"
    if http["keep_alive_timeout_s"] != settings.keep_alive_timeout:
        yield "proxies keep idle connections for another time than the service"
    cluster = service["rayClusterConfig"]
    (workers,) = cluster["workerGroupSpecs"]
    groups = (cluster["headGroupSpec"]["template"]["spec"], workers["template"]["spec"])
    yield from _problems_of_rays_image(cluster, groups, project)
    if cluster["authOptions"]["mode"] != "token":
        yield "whoever reaches Ray's ports may run code"
    if cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] != "0":
        yield "the head runs replicas beside its own processes"
    scaled = cluster["enableInTreeAutoscaling"]
    if not scaled and workers["maxReplicas"] > workers["replicas"]:
        yield "nothing adds pods for more replicas"
    end = settings.drain_delay + settings.graceful_timeout + 2 * EXIT_MARGIN
    for pod in groups:
        (container,) = pod["containers"]
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        if ports.get("serve") != http["port"]:
            yield f"proxies listen on {http['port']}, {container['name']} has {ports}"
        if pod["terminationGracePeriodSeconds"] <= end:
            yield f"{container['name']} is killed before replicas may end, {end:g} s"
        if container["resources"]["requests"] != container["resources"]["limits"]:
            yield f"{container['name']} requests other resources than it may have"
        if container["securityContext"] != LOCKED or not pod["securityContext"]["runAsNonRoot"]:
            yield f"{container['name']} is not locked down"
        if "/tmp" not in {each["mountPath"] for each in container["volumeMounts"]}:  # noqa: S108
            yield f"{container['name']} cannot write to /tmp"
    probe = container["readinessProbe"]["httpGet"]
    if (probe["path"], probe["port"]) != ("/-/healthz", http["port"]):
        yield f"the readiness of workers is asked at {probe}"
    cpus = int(container["resources"]["limits"]["cpu"]) // max(1, settings.threads)
    for count, replicas in (
        (workers["minReplicas"], settings.workers),
        (workers["maxReplicas"], int(own[f"{PREFIX}RAY_MAX_REPLICAS"])),
    ):
        if count * cpus < replicas:
            yield f"{count} pods have no CPUs for {replicas} replicas"


def _problems_of_rays_image(
    cluster: Document, groups: Iterable[Document], project: Path
) -> Iterator[str]:
    dockerfile = (project / "deploy/ray/Dockerfile").read_text(encoding="utf-8")
    if f'"ray[serve]=={cluster["rayVersion"]}"' not in dockerfile:
        yield f"the image does not have Ray {cluster['rayVersion']}"
    if "\nENTRYPOINT []\n" not in dockerfile:
        yield "the image starts the service whatever command a pod of Ray has"
    if len({pod["containers"][0]["image"] for pod in groups}) != 1:
        yield "head and workers have different images"
    for pod in groups:
        if f"USER {pod['securityContext']['runAsUser']}\n" not in dockerfile:
            yield f"the image has another user than {pod['securityContext']['runAsUser']}"


def problems_of_pods(pods: Pods, project: Path) -> Iterator[str]:
    """Describe where pods do not agree with the service, its image, or good practice."""
    settings, container = pods.settings, pods.container
    dockerfile = (project / "Dockerfile").read_text(encoding="utf-8")
    if settings.host != "0.0.0.0":  # noqa: S104 - of the container
        yield f"the service listens on {settings.host}"
    ports = {each.get("name"): each["containerPort"] for each in container["ports"]}
    if list(ports.values()) != [settings.port] or f"EXPOSE {settings.port}\n" not in dockerfile:
        yield f"the service listens on {settings.port}, the container has {ports}"
    end = settings.drain_delay + settings.graceful_timeout + 2 * EXIT_MARGIN
    if pods.grace <= end:
        yield f"the grace of {pods.grace:g} s is too short: the service may need {end:g} s"
    yield from _problems_of_probes(container, ports, settings, project)
    yield from _problems_of_resources(container, settings, pods)
    user = pods.spec["securityContext"].get("runAsUser")
    if f"USER {user}\n" not in dockerfile:
        yield f"the image has another user than {user}"
    if not pods.spec["securityContext"].get("runAsNonRoot"):
        yield "the pod may run as root"
    if pods.spec["securityContext"].get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "the pod has no seccomp profile"
    if pods.spec.get("automountServiceAccountToken") is not False:
        yield "the pod gets a token"
    for each in (container, *pods.spec.get("initContainers", [])):
        if each["securityContext"] != LOCKED:
            yield f"{each['name']} is not locked down"
    if "emptyDir" not in pods.volumes.get(pods.mounts.get("/tmp", ""), {}):  # noqa: S108
        yield "nothing can be written to /tmp"


LOCKED: Final = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def _problems_of_probes(
    container: Document, ports: Document, settings: Settings, project: Path
) -> Iterator[str]:
    paths = {
        "startupProbe": "/v2/health/ready",
        "readinessProbe": "/v2/health/ready",
        "livenessProbe": "/v2/health/live",
    }
    for name, path in paths.items():
        asked = container[name]["httpGet"]
        if asked["path"] != path:
            yield f"{name} asks {asked['path']}"
        if ports.get(asked["port"], asked["port"]) != settings.port:
            yield f"{name} asks the port {asked['port']}"
    if window(container["readinessProbe"]) > settings.drain_delay:
        yield "the drain delay is over before the readiness probe has failed"
    if window(container["livenessProbe"]) <= settings.longest_run:
        yield "the liveness probe comes before the service names the model that hangs"
    check = read(project / "compose.yaml")["services"]["service"]["healthcheck"]
    if window(container["startupProbe"]) < seconds(check["start_period"]):
        yield "the startup probe waits less than the health check of the image"


def _problems_of_resources(container: Document, settings: Settings, pods: Pods) -> Iterator[str]:
    for each in (container, *pods.spec.get("initContainers", [])):
        resources = each["resources"]
        if resources["requests"] != resources["limits"]:
            yield f"{each['name']} requests {resources['requests']} of {resources['limits']}"
    cpus = float(container["resources"]["limits"]["cpu"])
    if not cpus.is_integer() or cpus < settings.workers * max(1, settings.threads):
        yield f"{settings.workers} workers have {cpus:g} CPUs"


def problems_of_objects(documents: list[Document], project: Path) -> Iterator[str]:
    """Describe where the objects around a Deployment do not fit it, and each other."""
    deployment = of_kind(documents, "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"].items()
    ports = {each["name"] for each in deployment["template"]["spec"]["containers"][0]["ports"]}
    service = of_kind(documents, "Service")
    kinds = {each["kind"]: each["spec"] for each in documents if "spec" in each}
    if deployment["strategy"]["rollingUpdate"]["maxUnavailable"] != 0:
        yield "a rolling update takes replicas away"
    for kind, selector in (
        ("Deployment", deployment["selector"]["matchLabels"]),
        ("Service", service["spec"]["selector"]),
        ("NetworkPolicy", kinds["NetworkPolicy"]["podSelector"]["matchLabels"]),
        ("PodDisruptionBudget", kinds["PodDisruptionBudget"]["selector"]["matchLabels"]),
    ):
        if not selector or not selector.items() <= labels:
            yield f"{kind} selects {selector}, which no pod has"
    (offered,) = service["spec"]["ports"]
    (rule,) = kinds["NetworkPolicy"]["ingress"]
    for kind, port in (
        ("Service", offered["targetPort"]),
        *(("NetworkPolicy", each["port"]) for each in rule["ports"]),
    ):
        if port not in ports:
            yield f"{kind} leads to the port {port}, which no container has"
    if deployment["template"]["spec"]["serviceAccountName"] not in {
        each["metadata"]["name"] for each in documents if each["kind"] == "ServiceAccount"
    }:
        yield "there is no such service account"
    if monitor := kinds.get("ServiceMonitor"):
        own = service["metadata"]["labels"].items()
        if not monitor["selector"]["matchLabels"].items() <= own:
            yield "ServiceMonitor selects no Service"
        if [each["port"] for each in monitor["endpoints"]] != [offered["name"]]:
            yield "ServiceMonitor asks a port that the Service does not have"
    name = of_kind(documents, "Deployment")["metadata"]["name"]
    for kind in ("ScaledObject", "HorizontalPodAutoscaler"):
        if kind not in kinds:
            continue
        if kinds[kind]["scaleTargetRef"]["name"] != name:
            yield f"{kind} scales another Deployment"
        if "replicas" in deployment:
            yield f"replicas are given, which {kind} counts"
    yield from _problems_of_models(documents, project)


def _problems_of_models(documents: list[Document], project: Path) -> Iterator[str]:
    """Describe a model's volume that the service does not look into."""
    pods = deployed(documents)
    (folder,) = (
        line.split()[1]
        for line in (project / "Dockerfile").read_text(encoding="utf-8").splitlines()
        if line.startswith("WORKDIR")
    )
    place = f"{folder}/{pods.settings.model_dir}"
    names = {name: where for where, name in pods.mounts.items()}
    if "model" in pods.volumes and names.get("model") != place:
        yield f"the model is mounted at {names.get('model')}, the service reads {place}"
    for fetch in pods.spec.get("initContainers", []):
        mounts = {each["name"]: each["mountPath"] for each in fetch["volumeMounts"]}
        if mounts.get("model") != place:
            yield f"{fetch['name']} writes to {mounts.get('model')}"
        if not set(mounts) <= pods.volumes.keys():
            yield f"{fetch['name']} mounts what is not there"


def window(probe: Document) -> float:
    """Return the seconds until a probe that always fails has its consequence."""
    return float(probe["periodSeconds"] * probe["failureThreshold"])


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def kustomizations(folder: Path) -> list[Path]:
    return sorted(folder.rglob("kustomization.yaml"))


def problems_of_kustomizations(folder: Path) -> Iterator[str]:
    """Describe files that are named and missing, or there and not named, and patches of nothing."""
    objects = {
        (document["kind"], document["metadata"]["name"])
        for path in folder.rglob("*.yaml")
        if path.name != "kustomization.yaml" and (document := read(path))
    }
    for path in kustomizations(folder):
        document, here = read(path), path.parent
        files = [
            *(each for each in document.get("resources", ()) if each.endswith(".yaml")),
            *(name for each in document.get("configMapGenerator", ()) for name in each["envs"]),
        ]
        bases = [each for each in document.get("resources", ()) if not each.endswith(".yaml")]
        for name in (*files, *bases, *document.get("components", ())):
            if not (here / name).exists():
                yield f"{path}: there is no {name}"
        if surplus := {each.name for each in here.iterdir() if each.is_file()} - {
            "kustomization.yaml",
            *files,
        }:
            yield f"{path} does not name {sorted(surplus)}"
        for patch in document.get("patches", ()):
            body = yaml.safe_load(patch["patch"])
            target = patch.get("target") or {"kind": body["kind"], **body["metadata"]}
            if (target["kind"], target["name"]) not in objects:
                yield f"{path}: a patch of {target['kind']} {target['name']}, which there is not"


def changed(documents: list[Document], kind: str, path: str, value: Any) -> list[Document]:
    """Return a copy with one value changed: that of a dotted path in the object of a kind.

    A value of None takes the field away.
    """
    copied = copy.deepcopy(documents)
    *above, last = path.split(".")
    place: Any = of_kind(copied, kind)
    for name in above:
        place = place[int(name) if name.isdecimal() else name.replace("~", ".")]
    last = last.replace("~", ".")
    if value is None:
        del place[last]
    else:
        place[int(last) if last.isdecimal() else last] = value
    return copied
