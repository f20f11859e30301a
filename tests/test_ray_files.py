"""The files for Ray Serve: what they and run.py make of the settings, with stand-ins for Ray."""

import asyncio
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from inferplate.template.render import render
from inferplate.template.variants import Variant
from inferplate_tools.workbench import Workbench
from service.ops.process import CannotStart, fail
from service.ops.settings import Settings, SettingsInvalid

pytest.importorskip("ray", reason="Ray is not installed: it has no wheels for this platform")

import ray
from ray import serve
from ray.serve.schema import HTTPOptionsSchema, ServeApplicationSchema, ServeDeploySchema


@pytest.fixture(scope="module")
def files(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the files for Ray of a service that has no model."""
    variant = Variant("fastapi", "onnxruntime", "uvicorn")
    answers = {**variant.answers(), "deploy": ["ray"]}
    destination = tmp_path_factory.mktemp("ray-files") / "project"
    return render(bench.template(), destination, answers) / "deploy/ray"


def load_module(path: Path) -> Any:
    """Import a module of a project, beside the fragments of the service."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def application(files: Path) -> Any:
    return load_module(files / "application.py")


def test_options_of_the_deployment_follow_from_the_settings(application: Any) -> None:
    settings = Settings(
        workers=2, threads=3, max_batch_size=8, max_queue_size=5, drain_delay=4, graceful_timeout=9
    )
    options = application.deployment_options(settings, application.RaySettings())
    assert options["num_replicas"] == 2
    assert options["max_ongoing_requests"] == 16
    assert options["max_queued_requests"] == 5
    assert options["backpressure_config"]["status_code"] == 503
    assert options["ray_actor_options"] == {"num_cpus": 3, "num_gpus": 0}
    assert options["graceful_shutdown_wait_loop_s"] == 4
    assert options["graceful_shutdown_timeout_s"] > 4 + 9
    scaled = application.deployment_options(settings, application.RaySettings(max_replicas=6))
    assert "num_replicas" not in scaled
    bounds = scaled["autoscaling_config"]
    assert (bounds["min_replicas"], bounds["max_replicas"]) == (2, 6)
    assert bounds["target_ongoing_requests"] == 8
    served = application.application(settings, application.RaySettings(max_replicas=6))
    assert served._bound_deployment._deployment_config.max_ongoing_requests == 16
    proxies = application.http_options(Settings(port=8123, request_timeout=5, keep_alive_timeout=7))
    assert proxies["port"] == 8123
    assert proxies["request_timeout_s"] > 5
    assert proxies["keep_alive_timeout_s"] == 7
    assert "ssl_certfile" not in proxies


def test_options_at_the_ends_of_what_settings_allow(application: Any) -> None:
    settings = Settings(device="cuda:0", drain_delay=0, graceful_timeout=9)
    options = application.deployment_options(settings, application.RaySettings())
    assert options["ray_actor_options"] == {"num_cpus": 1, "num_gpus": 1}
    assert options["graceful_shutdown_wait_loop_s"] > 0, "proxies know of the end before it comes"
    least = options["graceful_shutdown_wait_loop_s"] + 9
    assert options["graceful_shutdown_timeout_s"] > least
    assert 1 <= options["max_constructor_retry_count"] <= 5, "no replica starts again for ever"
    proxies = application.http_options(Settings(keep_alive_timeout=7.5))
    assert proxies["keep_alive_timeout_s"] == 8, "a whole number for Ray, and no shorter"


def test_the_own_settings_of_ray_decide_how_it_scales(application: Any) -> None:
    own = application.RaySettings(
        max_replicas=6, target_ongoing_requests=4, upscale_delay=12, downscale_delay=99
    )
    scaling = application.deployment_options(Settings(workers=2), own)["autoscaling_config"]
    assert scaling["target_ongoing_requests"] == 4
    assert (scaling["upscale_delay_s"], scaling["downscale_delay_s"]) == (12, 99)
    assert scaling["metrics_interval_s"] < scaling["look_back_period_s"] == 12


def test_proxies_of_the_local_run_have_the_certificate(application: Any) -> None:
    files = {"tls_certificate": Path("a.pem"), "tls_key": Path("a.key")}
    proxies = application.http_options(Settings().model_copy(update=files))
    assert (proxies["ssl_certfile"], proxies["ssl_keyfile"]) == ("a.pem", "a.key")


@pytest.mark.parametrize(
    ("given", "own", "named"),
    [
        ({"unix_socket": Path("service.sock")}, {}, "SERVICE_UNIX_SOCKET"),
        ({"metrics_port": 9090}, {}, "SERVICE_METRICS_PORT"),
        ({"header_timeout": 5}, {}, "SERVICE_HEADER_TIMEOUT"),
        ({"max_header_bytes": 9000}, {}, "SERVICE_MAX_HEADER_BYTES"),
        ({"max_connections": 50}, {}, "SERVICE_MAX_CONNECTIONS"),
        ({"workers": 3}, {"max_replicas": 2}, "SERVICE_RAY_MAX_REPLICAS"),
    ],
)
def test_what_ray_does_not_have_is_refused(
    given: dict[str, Any], own: dict[str, int], named: str, application: Any
) -> None:
    settings = Settings().model_copy(update=given)
    with pytest.raises(SettingsInvalid, match=named):
        application.application(settings, application.RaySettings(**own))


def test_a_configuration_may_have_no_arguments(application: Any) -> None:
    with pytest.raises(ValueError, match="env_vars"):
        application.app({"threads": 1})


@pytest.mark.parametrize("name", ["tls_certificate", "tls_key"])
def test_a_cluster_has_its_certificate_elsewhere(
    name: str, application: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings().model_copy(update={name: Path("a.pem")})
    monkeypatch.setattr(application, "load_settings", lambda: settings)
    with pytest.raises(SettingsInvalid, match=rf"SERVICE_{name.upper()}: .*http_options"):
        application.app({})


def test_a_cluster_reads_the_settings_of_ones_own_and_those_of_ray(
    application: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(application, "own_settings", lambda: read.append("own"))
    monkeypatch.setenv("SERVICE_RAY_MAX_REPLICAS", "6")
    served = application.app({})
    scaling = served._bound_deployment._deployment_config.autoscaling_config
    assert (scaling.max_replicas, read) == (6, ["own"])


def test_a_replica_is_one_process_that_is_healthy_while_its_model_is_ready(
    application: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = SimpleNamespace(engine=SimpleNamespace(ready=False))
    resources = SimpleNamespace(get_assigned_resources=lambda: {"CPU": 3.0})
    monkeypatch.setattr(ray, "get_runtime_context", lambda: resources)
    monkeypatch.setitem(sys.modules, "service.main", SimpleNamespace(app=front))
    monkeypatch.setenv("SERVICE_THREADS", "9")
    monkeypatch.setenv("SERVICE_WORKERS", "2")
    monkeypatch.setattr(application, "_POLL", 0.01)
    monkeypatch.setattr(
        "service.ops.process._terminate",
        lambda _: pytest.fail("the replica ends itself, instead of Ray"),
    )
    before = set(os.environ)
    replica = application.Replica()
    assert replica.__serve_build_asgi_app__() is front
    assert (os.environ["SERVICE_THREADS"], os.environ["SERVICE_WORKERS"]) == ("3", "1")

    async def check_while_it_loads() -> None:
        check = asyncio.ensure_future(replica.check_health())
        await asyncio.sleep(0.1)
        assert not check.done(), "the model is not ready yet"
        front.engine.ready = True
        await asyncio.wait_for(check, 5)

    def check() -> None:
        asyncio.run(asyncio.wait_for(replica.check_health(), 5))

    asyncio.run(check_while_it_loads())
    front.engine.ready = False
    with pytest.raises(RuntimeError, match="not ready any more"):
        check()
    fail("the model hangs")
    with pytest.raises(RuntimeError, match=r"^the model hangs$"):
        check()
    replica.__del__()
    assert set(os.environ) == before


@pytest.fixture
def local(files: Path, application: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Import run.py. Handlers of signals are as before afterwards."""
    for name in ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "")  # so that it is absent again afterwards
        monkeypatch.delenv(name)
    monkeypatch.setitem(sys.modules, "application", application)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield load_module(files / "run.py")
    for number, handler in handlers.items():
        signal.signal(number, handler)


class StandIn:
    """What run.py asks of Ray: the calls, and the arguments of some."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.given: dict[str, Any] = {}
        self.ports = ""
        self.handlers: list[Any] = []
        monkeypatch.setattr(ray, "init", self._init)
        monkeypatch.setattr(ray, "shutdown", lambda: self.calls.append("end Ray"))
        monkeypatch.setattr(serve, "start", lambda **_: self.calls.append("start"))
        monkeypatch.setattr(serve, "run", self._run)
        monkeypatch.setattr(serve, "delete", self._delete)
        monkeypatch.setattr(serve, "shutdown", lambda: self.calls.append("end Serve"))

    def _init(self, address: str = "", **given: Any) -> None:
        self.calls.append("init")
        self.given = {"address": address, **given}
        self.ports = os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "")

    def _run(self, _served: Any, *, name: str) -> None:
        self.calls.append(f"run {name}")
        assert callable(signal.getsignal(signal.SIGTERM)), "the signal would kill the tests"
        signal.raise_signal(signal.SIGTERM)

    def _delete(self, name: str) -> None:
        self.calls.append(f"delete {name}")
        self.handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_the_local_run_is_on_its_own_and_a_signal_lets_requests_finish(
    local: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = StandIn(monkeypatch)
    monkeypatch.setattr(
        local, "manifest", SimpleNamespace(read=lambda _: None, locate=lambda *_: None)
    )
    assert local.main() == 0
    assert stand_in.given["address"] == "local", "it joins no cluster that runs"
    assert stand_in.given["_node_ip_address"] == "127.0.0.1"
    assert stand_in.ports == "0", "Ray's own ports are on loopback"
    assert stand_in.given["include_dashboard"] is False
    assert stand_in.calls == [
        *("init", "start", "run default", "delete default", "end Serve", "end Ray")
    ]
    assert stand_in.handlers == [signal.SIG_IGN, signal.SIG_IGN], "nothing cuts the drain short"


def test_the_local_run_says_why_a_replica_does_not_start(
    local: Any, application: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = StandIn(monkeypatch)
    lines = "The deployment failed to start 3 times.\n  File ...\nRuntimeError: the model hangs\n"
    deployments = {"Replica": SimpleNamespace(message=lines)}
    status = SimpleNamespace(applications={"default": SimpleNamespace(deployments=deployments)})

    def run(*_: Any, **__: Any) -> None:
        raise RuntimeError("Deploying application default failed")

    monkeypatch.setattr(serve, "run", run)
    monkeypatch.setattr(serve, "status", lambda: status)
    settings = Settings()
    served = application.application(settings, application.RaySettings())
    with pytest.raises(CannotStart, match=r"^the model hangs$"):
        local._serve(settings, served)
    assert stand_in.calls == ["init", "start", "end Serve", "end Ray"]


@pytest.mark.parametrize(
    ("variable", "text"),
    [("SERVICE_PORT", "many"), ("SERVICE_MAX_CONNECTIONS", "5"), ("SERVICE_RAY_MAX_REPLICAS", "x")],
)
def test_the_local_run_refuses_wrong_settings_with_2(
    variable: str,
    text: str,
    local: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, text)
    assert local.main() == 2
    assert variable in capsys.readouterr().err


def test_the_local_run_misses_a_model_before_it_starts_ray(
    local: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SERVICE_MODEL_DIR", str(tmp_path))
    monkeypatch.setattr(local, "_serve", lambda *_: pytest.fail("it starts Ray"))
    assert local.main() == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("service: ")


def test_the_local_run_without_ray_says_what_to_install(
    local: Any,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(files)
    monkeypatch.delitem(sys.modules, "application")
    monkeypatch.setitem(sys.modules, "ray", None)
    assert local.main() == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert "uv sync --group ray" in told


def test_the_configuration_follows_rays_schema_strictly(files: Path) -> None:
    path = files / "serve.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert unknown(document) == set()
    assert unknown({**document, "proxy_loc": "EveryNode"}) == {"proxy_loc"}
    http = {**document["http_options"], "requst_timeout_s": 3}
    assert unknown({**document, "http_options": http}) == {"requst_timeout_s"}
    with pytest.raises(ValueError, match="proxy_location"):
        unknown({**document, "proxy_location": "Everywhere"})


def unknown(document: dict[str, Any]) -> set[str]:
    """Return the names in a configuration that Ray would ignore: it allows any.

    Raises:
        ValueError: the configuration is not valid.
    """
    ServeDeploySchema.model_validate(document)
    application, *_ = document["applications"]
    known = (
        (document, ServeDeploySchema),
        (document["http_options"], HTTPOptionsSchema),
        (application, ServeApplicationSchema),
    )
    return {name for given, schema in known for name in given if name not in schema.model_fields}
