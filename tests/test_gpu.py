"""The answer ``accelerator=cuda``: what it emits, and what the service refuses without a GPU.

No test needs a GPU: the suites ask the model on the CPU, and stand-ins play a GPU that is missing
or not used. What only a GPU can show is in ``benchmarks/gpu.sh``.
"""

import json
import os
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import copier
import manifests
import pytest
from conftest import Covers, Run
from history import NEWEST, MakeProject, first, last, save, update
from manifests import CHOICES, read

from inferplate.errors import InferplateError
from inferplate.git import Git
from inferplate.project.project import Project
from inferplate.template.questions import read_questions
from inferplate.template.render import render
from inferplate.template.source import template_root
from inferplate.template.variants import Variant, variants
from inferplate_tools.service import free_port
from inferplate_tools.verify.checks import CHECKS
from inferplate_tools.workbench import Workbench, project_environment

ROOT = template_root()
SCRIPT = ROOT / "benchmarks/gpu.sh"
OFFERED = ("onnxruntime", "pytorch", "transformers")
ELSEWHERE = sorted({each.runtime for each in variants(read_questions(ROOT))} - {*OFFERED})
REASON = "needs onnxruntime, pytorch or transformers"
SECONDS = 120


@dataclass(frozen=True)
class OnCuda(Variant):
    """A variant with the answer ``cuda``."""

    @property
    def name(self) -> str:
        return f"{self.framework}-{self.runtime}-{self.server}-cuda"

    def answers(self) -> dict[str, str]:
        return {**super().answers(), "accelerator": "cuda"}

    def __str__(self) -> str:
        return self.name


VARIANTS = [
    OnCuda("fastapi", "onnxruntime", "uvicorn"),
    OnCuda("litestar", "pytorch", "granian"),
    OnCuda("ninja", "transformers", "hypercorn"),
]


@pytest.fixture(params=VARIANTS, ids=str)
def on_cuda(request: pytest.FixtureRequest) -> OnCuda:
    variant: OnCuda = request.param
    return variant


@pytest.fixture
def deployed(on_cuda: OnCuda, bench: Workbench) -> Path:
    """Emit a variant with all files of deployments."""
    answers = {"deploy": CHOICES, **on_cuda.answers()}
    return bench.once(f"deployed/{on_cuda}", lambda path: render(bench.template(), path, answers))


# The question.


def test_elsewhere_new_refuses_it_with_the_reason(inferplate: Run, tmp_path: Path) -> None:
    arguments = ("--defaults", "--runtime", "xgboost", "--set", "accelerator=cuda")
    code, _, error = inferplate("new", tmp_path / "service", *arguments)
    assert (code, error) == (1, f"inferplate: accelerator=cuda: {REASON}\n")
    assert not (tmp_path / "service").exists()


@pytest.mark.parametrize("runtime", ELSEWHERE)
def test_elsewhere_plain_copier_refuses_it_with_the_reason(
    runtime: str, template: Path, tmp_path: Path
) -> None:
    data = {"runtime": runtime, "accelerator": "cuda"}
    with pytest.raises(ValueError, match=f"Invalid choice for 'accelerator': {REASON}"):
        copier.run_copy(str(template), tmp_path, data=data, defaults=True, quiet=True)


def test_elsewhere_it_is_neither_asked_nor_recorded(template: Path, tmp_path: Path) -> None:
    for runtime, recorded in (("xgboost", None), ("pytorch", "cpu")):
        project = render(template, tmp_path / runtime, {"runtime": runtime})
        assert read(project / ".copier-answers.yml").get("accelerator") == recorded


# What is emitted.


@pytest.mark.parametrize("check", ["lint", "types", "dependencies"])
def test_a_variant_passes(check: str, on_cuda: OnCuda, bench: Workbench, covers: Covers) -> None:
    CHECKS[check].run(bench, on_cuda)
    covers(f"on a GPU: {check}", on_cuda, len(VARIANTS))


def test_the_emitted_tests_of_the_model_pass_without_a_gpu(
    on_cuda: OnCuda, bench: Workbench
) -> None:
    bench.place_artifact(on_cuda)
    disabled = [part for name in ("copie", "faker", "xdist") for part in ("-p", f"no:{name}")]
    command = [bench.python, "-m", "pytest", "-q", *disabled, "--ignore", "tests/managed"]
    bench.run(command, bench.project(on_cuda), timeout=SECONDS)


def test_wheels_bring_cuda(on_cuda: OnCuda, bench: Workbench) -> None:
    document = tomllib.loads((bench.project(on_cuda) / "pyproject.toml").read_text("utf-8"))
    names = {each.partition(">")[0] for each in document["project"]["dependencies"]}
    assert "nvidia-ml-py" in names
    if on_cuda.runtime == "onnxruntime":
        assert "onnxruntime-gpu[cuda,cudnn]" in names
        assert "onnxruntime" not in names, "both have the same modules"
    else:
        assert "torch" in names
    assert "index" not in document["tool"]["uv"], "the usual index has the CUDA builds"


def test_the_image_stays_on_the_slim_base(on_cuda: OnCuda, bench: Workbench) -> None:
    project = bench.project(on_cuda)
    dockerfile = (project / "Dockerfile").read_text(encoding="utf-8")
    assert "FROM python:3.12-slim AS pinned\n" in dockerfile
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in dockerfile
    for name in ("Dockerfile", "README.md", "pyproject.toml"):
        assert "whl/cpu" not in (project / name).read_text(encoding="utf-8"), name
    assert "GPU ?= --env SERVICE_DEVICE=cpu\n" in (project / "Makefile").read_text("utf-8")


def test_compose_and_pods_get_a_gpu(deployed: Path) -> None:
    limits = read(deployed / "compose.yaml")["services"]["service"]
    (device,) = limits["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    deployment = read(deployed / "deploy/kubernetes/base/deployment.yaml")
    predictor = read(deployed / "deploy/kserve/base/inferenceservice.yaml")["spec"]["predictor"]
    runtime = read(deployed / "deploy/kserve/base/servingruntime.yaml")["spec"]
    pod = deployment["spec"]["template"]["spec"]
    for container, tolerating in (
        (pod["containers"][0], pod),
        (runtime["containers"][0], predictor),
    ):
        resources = container["resources"]
        assert resources["limits"] == resources["requests"]
        assert resources["limits"]["nvidia.com/gpu"] == 1
        assert resources["limits"]["memory"] == limits["mem_limit"].replace("g", "Gi")
        (toleration,) = tolerating["tolerations"]
        assert toleration["key"] == "nvidia.com/gpu"
    assert deployment["spec"]["replicas"] == 1
    assert predictor["minReplicas"] == predictor["maxReplicas"] == 1
    for strategy in (deployment["spec"]["strategy"], predictor["deploymentStrategy"]):
        # With one GPU, a new pod beside the old one would wait for it for ever.
        assert strategy["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert not (deployed / "deploy/kubernetes/components/autoscale-hpa").exists()


def test_manifests_follow_the_schemas_and_name_every_file(deployed: Path) -> None:
    documents = [
        document
        for path in (deployed / "deploy").rglob("*.yaml")
        if "metadata" in (document := read(path))
    ]
    assert [*manifests.invalid(documents, manifests.definitions())] == []
    for folder in ("kubernetes", "kserve"):
        assert [*manifests.problems_of_kustomizations(deployed / "deploy" / folder)] == []


@pytest.mark.skipif(manifests.KUBECTL is None, reason="no kubectl with kustomize 4 or newer")
def test_overlays_agree_with_the_service(bench: Workbench, tmp_path: Path) -> None:
    answers = {"deploy": CHOICES, **VARIANTS[0].answers()}
    project = render(bench.template(), tmp_path / "service", answers)
    documents = manifests.build(project / "deploy/kubernetes/overlays/production")
    pods = manifests.deployed(documents)
    expected = ["a rolling update takes replicas away"]
    assert [*manifests.problems_of_objects(documents, project)] == expected
    assert [*manifests.problems_of_pods(pods, project)] == []
    kserve = manifests.build(project / "deploy/kserve/overlays/production")
    assert [*manifests.problems_of_pods(manifests.served_by_kserve(kserve), project)] == []


# Refusal.


def test_a_service_without_its_gpu_does_not_start(on_cuda: OnCuda, bench: Workbench) -> None:
    bench.place_artifact(on_cuda)
    done = subprocess.run(
        [bench.python, "-m", "service"],
        cwd=bench.project(on_cuda),
        env=project_environment({"SERVICE_PORT": str(free_port()), "CUDA_VISIBLE_DEVICES": ""}),
        capture_output=True,
        check=False,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 1, done.stderr
    (line,) = (each for each in done.stderr.splitlines() if each.startswith("service:"))
    assert "the device 'cuda' is not available" in line
    assert "nvidia-smi" in line
    assert "SERVICE_DEVICE=cpu" in line


STAND_IN = """
import json, sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import onnxruntime as real

from service import runtime
from service.core import manifest

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
stand_in = ModuleType("onnxruntime")
stand_in.SessionOptions = real.SessionOptions
stand_in.get_available_providers = lambda: [CUDA, CPU]
opened, preloaded = [], []
stand_in.preload_dlls = lambda: preloaded.append(1)

def parts(**named):
    return [
        SimpleNamespace(ep_name=name, get_nodes=lambda some=some: [
            SimpleNamespace(op_type=each) for each in some.split()
        ])
        for name, some in named.items()
    ]

class Session:
    outcome = None

    def __init__(self, path, options, providers, **more):
        opened.append((providers, more))
        self.real = real.InferenceSession(path, options, providers=[CPU])
        if isinstance(self.outcome, Exception) and providers[0][0] == CUDA:
            raise self.outcome
        self.providers, self.parts = self.outcome if providers[0][0] == CUDA else ([CPU], [])

    def get_providers(self):
        return self.providers

    def get_provider_graph_assignment_info(self):
        return self.parts

    def __getattr__(self, name):
        return getattr(self.real, name)

stand_in.InferenceSession = Session
sys.modules["onnxruntime"] = stand_in
models = Path("models")
described = manifest.read(models)
artifact = manifest.verify(described, models, runtime.RUNTIME)
logged = []
runtime.log.warning = lambda text, *values: logged.append(text % values)

def outcome(given, device="cuda"):
    Session.outcome = given
    logged.clear()
    try:
        runtime.load(artifact, described, threads=1, device=device)
    except manifest.ArtifactError as error:
        return f"refused: {error}"
    return "; ".join(["loaded", *logged])

print(json.dumps({
    "used": outcome(([CUDA, CPU], parts(**{CUDA: "Gemm Softmax"}))),
    "fell back": outcome(([CPU], parts(**{CPU: "Gemm Softmax"}))),
    "fell back behind": outcome(([CPU, CUDA], parts(**{CPU: "Gemm Softmax"}))),
    "not used": outcome(([CUDA, CPU], parts(**{CPU: "LinearClassifier Normalizer"}))),
    "in part": outcome(([CUDA, CPU], parts(**{CUDA: "Gemm", CPU: "Cast Loop Cast"}))),
    "no driver": outcome(RuntimeError("CUDA failure 35: driver is too old\\nand more")),
    "second": outcome(([CUDA, CPU], parts(**{CUDA: "Gemm"})), "cuda:1"),
    "opened": opened,
    "preloaded": len(preloaded),
}))
"""


@pytest.fixture(scope="module")
def outcomes(bench: Workbench) -> dict[str, Any]:
    """Load a model on an ONNX Runtime whose CUDA is played by a stand-in."""
    variant = VARIANTS[0]
    bench.place_artifact(variant)
    printed = bench.run([bench.python, "-c", STAND_IN], bench.project(variant), timeout=60)
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def test_onnxruntime_that_uses_the_gpu_is_taken(outcomes: dict[str, Any]) -> None:
    assert outcomes["used"] == outcomes["second"] == "loaded"
    (((provider, options),), more) = outcomes["opened"][0]
    assert (provider, options) == ("CUDAExecutionProvider", {"use_tf32": "0"})
    assert more == {"enable_fallback": 0}
    (((_, options),), _) = outcomes["opened"][-1]
    assert options["device_id"] == "1"
    assert outcomes["preloaded"] == sum(
        given[0][0] == "CUDAExecutionProvider" for given, _ in outcomes["opened"]
    ), "the wheels' libraries are found by preloading them"


@pytest.mark.parametrize("how", ["fell back", "fell back behind"])
def test_onnxruntime_that_falls_back_is_refused(how: str, outcomes: dict[str, Any]) -> None:
    assert outcomes[how].startswith("refused: the device 'cuda' is not available")
    assert "fell back" in outcomes[how]
    assert "nvidia-smi" in outcomes[how]


def test_a_model_without_an_operator_on_the_gpu_is_refused(outcomes: dict[str, Any]) -> None:
    assert outcomes["not used"] == (
        "refused: the model would not run on the device 'cuda', which has none of its operators "
        "(LinearClassifier, Normalizer); SERVICE_DEVICE=cpu runs it"
    )


def test_operators_that_stay_on_the_cpu_are_named(outcomes: dict[str, Any]) -> None:
    assert outcomes["in part"] == (
        "loaded; 3 of 4 operators run on the CPU, not on cuda: 2 Cast, 1 Loop"
    )


def test_a_driver_that_is_too_old_is_the_device_not_the_model(outcomes: dict[str, Any]) -> None:
    assert "is not available, CUDA failure 35: driver is too old; look" in outcomes["no driver"]
    assert "cannot be loaded" not in outcomes["no driver"]


PLACEMENT = """
import json
from pathlib import Path

import torch
import torch.export.passes
from service import runtime
from service.core import manifest
from service.core.manifest import ArtifactError

PLACE

def outcome(module, name):
    try:
        place(module, torch.device(name))
    except ArtifactError as error:
        return str(error)
    return "placed"

class Stays(torch.nn.Linear):
    def to(self, device):
        return self

class Buffered(Stays):
    def __init__(self):
        super().__init__(2, 2)
        self.register_buffer("table", torch.ones(1))
        del self.weight, self.bias

def loaded():
    runtime._device = lambda name: torch.device("meta")  # which is no GPU, but not the CPU
    torch.export.passes.move_to_device_pass = lambda program, device: program
    torch.nn.Module.to = lambda self, *_, **__: self
    models = Path("models")
    described = manifest.read(models)
    artifact = manifest.verify(described, models, runtime.RUNTIME)
    try:
        runtime.load(artifact, described, threads=1, device="meta")
    except ArtifactError as error:
        return str(error)
    return "loaded"

print(json.dumps([
    outcome(Stays(2, 2), "cuda"),
    outcome(Buffered(), "cuda:1"),
    outcome(Stays(2, 2), "cpu"),
    loaded(),
]))
"""


@pytest.mark.parametrize(
    ("variant", "place"),
    [
        (VARIANTS[1], "place = runtime._check_placement"),
        (VARIANTS[2], "from service.text_models.folder import place"),
    ],
    ids=str,
)
def test_weights_that_are_not_on_the_gpu_are_refused(
    variant: OnCuda, place: str, bench: Workbench
) -> None:
    code = PLACEMENT.replace("PLACE", place)
    bench.place_artifact(variant)
    printed = bench.run([bench.python, "-c", code], bench.project(variant), timeout=SECONDS)
    weight, table, placed, loaded = json.loads(printed.splitlines()[-1])
    refused = "the model would not run on the device '{}', which lacks '{}', which is on cpu; "
    assert weight.startswith(refused.format("cuda", "weight"))
    assert table.startswith(refused.format("cuda:1", "table"))
    assert placed == "placed"
    assert loaded.startswith("the model would not run on the device 'meta', which lacks '")


# Transfer and warm-up.

TRANSFER = """
import asyncio, json, threading
from pathlib import Path

import torch
from service import runtime
from service.core.engine import Engine
from service.ops.settings import Settings

fetched, made = [], []
to_host, tensor = torch.Tensor.cpu, torch.tensor
waiting = threading.Event()

def cpu(self, *arguments):
    fetched.append(threading.current_thread().name)
    waiting.wait(0.002)  # as a GPU that is not ready yet
    return to_host(self, *arguments)

def to_device(*arguments, **named):
    made.append(threading.current_thread().name)
    return tensor(*arguments, **named)

torch.Tensor.cpu, torch.tensor = cpu, to_device
timings = {}

async def main():
    from service.core import engine as module, trial
    try_out = trial.try_out
    def noted(*arguments, **named):
        verdict = try_out(*arguments, **named)
        timings.update(verdict.timings)
        return verdict
    module.trial.try_out = noted
    engine = Engine(Settings(model_dir=Path("models"), device="cpu"), runtime)
    await engine.start()
    await engine.close()

asyncio.run(main())
here = threading.current_thread().name
print(json.dumps([sorted({*fetched, *made}), here, min(timings.values())]))
"""


def test_tensors_go_to_the_device_and_back_in_the_models_thread_and_are_timed(
    bench: Workbench,
) -> None:
    variant = VARIANTS[1]
    bench.place_artifact(variant)
    printed = bench.run([bench.python, "-c", TRANSFER], bench.project(variant), timeout=120)
    threads, of_loop, fastest = json.loads(printed.splitlines()[-1])
    assert len(threads) == 1
    assert of_loop not in threads
    assert fastest >= 0.002, "warm-up waits for the copy back, which waits for the device"


# Updates.


@pytest.fixture
def edited(make_project: MakeProject) -> Path:
    """Return a project on the CPU with the edits of its owner."""
    project = make_project(Variant("fastapi", "pytorch", "uvicorn"), NEWEST)
    save(
        project,
        {
            "src/service/predict.py": last("# mine"),
            "compose.yaml": first("# mine"),
            "pyproject.toml": last("# mine"),
        },
    )
    return project


def test_an_existing_service_moves_to_a_gpu_and_loses_nothing(edited: Path) -> None:
    plan = update(edited, accelerator="cuda")
    assert plan.switched == {"accelerator": ("cpu", "cuda")}
    assert plan.conflicts == {}
    assert plan.to_delete == []
    for name in ("src/service/predict.py", "compose.yaml", "pyproject.toml"):
        assert "# mine" in (edited / name).read_text(encoding="utf-8"), name
    document = tomllib.loads((edited / "pyproject.toml").read_text(encoding="utf-8"))
    assert "index" not in document["tool"]["uv"]
    settings = (edited / "src/service/ops/accelerator.py").read_text(encoding="utf-8")
    assert '"cuda"' in settings
    Git(edited).raw("add", "--all")
    Git(edited).raw("commit", "--quiet", "--message", "to a GPU")
    back = update(edited, accelerator="cpu")
    assert back.conflicts == {}
    assert Project.read(edited).answers["accelerator"] == "cpu"


def test_an_update_to_a_runtime_without_it_is_refused(edited: Path) -> None:
    update(edited, accelerator="cuda")
    Git(edited).raw("add", "--all")
    Git(edited).raw("commit", "--quiet", "--message", "to a GPU")
    with pytest.raises(InferplateError, match=REASON):
        update(edited, runtime="scikit-learn")
    assert Git(edited).text("status", "--porcelain") == ""
    update(edited, runtime="scikit-learn", accelerator="cpu")
    assert "accelerator" not in Project.read(edited).answers


# The measurement.


@pytest.fixture
def without_gpu(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Return an environment whose nvidia-smi answers as given, and where nothing is installed."""

    def make(smi: str) -> dict[str, str]:
        for name, body in {"nvidia-smi": smi, "uv": f"touch {tmp_path}/installed; exit 3"}.items():
            tool = tmp_path / name
            tool.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
            tool.chmod(0o755)
        return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    return make


@pytest.mark.parametrize("smi", ["exit 9", "exit 0"], ids=["no driver", "no device"])
def test_the_measurement_says_that_no_gpu_is_there_before_it_installs(
    smi: str, without_gpu: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    done = subprocess.run(
        [SCRIPT, tmp_path / "out"],
        env=without_gpu(smi),
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "no NVIDIA GPU" in line
    assert not (tmp_path / "installed").exists()
    assert not (tmp_path / "out").exists()
