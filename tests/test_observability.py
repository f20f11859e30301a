"""Prometheus, its alerts and the dashboard that ``compose.yaml`` brings, and their metrics."""

import json
import math
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil
import pytest
import yaml
from conftest import ALL_VARIANTS
from prometheus_client.parser import text_string_to_metric_families
from promql_parser import Expr, VectorSelector, parse, walk

from inferplate.template.source import template_root
from inferplate_tools.client import HOST, ask, post_json
from inferplate_tools.golden import Golden
from inferplate_tools.service import Service, free_port, wait_until
from inferplate_tools.workbench import Workbench

SERVICE = template_root() / "template/service"
DASHBOARD = SERVICE / "deploy/grafana/dashboards/service.json"
ALERTS = SERVICE / "deploy/prometheus/alerts.yml"
RULES = yaml.safe_load(ALERTS.read_bytes())["groups"][0]["rules"]
PANELS = json.loads(DASHBOARD.read_bytes())["panels"]

OF_PROMETHEUS = {"up"}
"""Metrics that Prometheus makes itself."""
SCRAPE_INTERVAL, WINDOW = "500ms", "5s"
DATA_SECONDS = 60
PAUSE = 0.02


def queries(panel: dict[str, Any]) -> list[str]:
    """Read the queries of a panel, with the dashboard's variables filled in."""
    return [
        target["expr"].replace("$job", "service").replace("$__rate_interval", WINDOW)
        for target in panel["targets"]
    ]


def metrics_in(query: str) -> set[str]:
    names: set[str] = set()

    def collect(expression: Expr) -> None:
        if isinstance(expression, VectorSelector) and expression.name:
            names.add(expression.name)

    walk(parse(query), collect)
    return names


@contextmanager
def running(bench: Workbench, folder: Path, workers: int) -> Iterator[Service]:
    variant = ALL_VARIANTS[0]
    project = folder / "service"
    shutil.copytree(bench.project(variant), project)
    shutil.copytree(bench.artifact(variant), project / "models", dirs_exist_ok=True)
    settings = {"SERVICE_WORKERS": str(workers), "SERVICE_THREADS": "1"}
    with Service(project, bench.python, settings) as service:
        service.wait_ready()
        yield service


@contextmanager
def load(service: Service) -> Iterator[None]:
    """Ask for a prediction, and for one that is refused, again and again."""
    request = Golden.of(service.project).typed_request
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(PAUSE):
            post_json(service.port, "/predict", request)
            post_json(service.port, "/predict", {})

    client = threading.Thread(target=work)
    client.start()
    try:
        yield
    finally:
        ended.set()
        client.join()


@contextmanager
def prometheus(service: Service, folder: Path) -> Iterator[int]:
    """Run Prometheus as it is configured, but faster, and on a port of the loopback interface."""
    configured = service.project / "deploy/prometheus/prometheus.yml"
    configuration = yaml.safe_load(configured.read_bytes())
    (scraped,) = configuration["scrape_configs"]
    assert scraped["static_configs"] == [{"targets": ["service:8000"]}]
    scraped["static_configs"] = [{"targets": [f"{HOST}:{service.port}"]}]
    configuration["global"] = {
        "scrape_interval": SCRAPE_INTERVAL,
        "scrape_timeout": SCRAPE_INTERVAL,
        "evaluation_interval": SCRAPE_INTERVAL,
    }
    configured.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={configured}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={HOST}:{port}",
    ]
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        assert wait_until(lambda: is_ready(port), DATA_SECONDS), log.read_text()
        yield port
    finally:
        process.terminate()
        process.wait()


def is_ready(port: int) -> bool:
    try:
        return ask(port, "GET", "/-/ready").status == 200
    except OSError:
        return False


def has_data(port: int, query: str) -> bool:
    answer = ask(port, "GET", f"/api/v1/query?{urlencode({'query': query})}").json()
    assert answer["status"] == "success", (query, answer)
    values = [float(series["value"][1]) for series in answer["data"]["result"]]
    return bool(values) and all(map(math.isfinite, values))


@pytest.mark.slow
def test_prometheus_has_data_for_every_panel_under_load(bench: Workbench, tmp_path: Path) -> None:
    missing = [query for panel in PANELS for query in queries(panel)]

    def complete() -> bool:
        missing[:] = [query for query in missing if not has_data(port, query)]
        return not missing

    with (
        running(bench, tmp_path, workers=2) as service,
        prometheus(service, tmp_path) as port,
        load(service),
    ):
        assert wait_until(complete, DATA_SECONDS), missing
        groups = ask(port, "GET", "/api/v1/rules").json()["data"]["groups"]
    evaluated = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert evaluated == {rule["alert"]: "ok" for rule in RULES}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_the_service_exports_every_metric_that_is_named(
    workers: int, bench: Workbench, tmp_path: Path
) -> None:
    named = {
        metric
        for query in [rule["expr"] for rule in RULES] + [q for p in PANELS for q in queries(p)]
        for metric in metrics_in(query)
    }
    with running(bench, tmp_path, workers) as service:
        post_json(service.port, "/predict", Golden.of(service.project).typed_request)
        post_json(service.port, "/predict", {})
        page = ask(service.port, "GET", "/metrics").body.decode()
        processes = psutil.Process(service.pid).children(recursive=True) if workers > 1 else []
        resident = [process.memory_info().rss for process in processes]
    samples = [
        sample for family in text_string_to_metric_families(page) for sample in family.samples
    ]
    assert named - {sample.name for sample in samples} == OF_PROMETHEUS
    (told,) = [s.value for s in samples if s.name == "process_resident_memory_bytes"]
    assert told > max(resident, default=0), "the memory of all workers, not of one"


def test_promtool_accepts_the_configuration() -> None:
    configuration = SERVICE / "deploy/prometheus/prometheus.yml"
    command = ["promtool", "check", "config", "--lint-fatal", str(configuration)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


REQUESTS = 'http_requests_total{job="service", route="/predict", status="%s"}'
REJECTED = 'inference_rejected_total{job="service", reason="%s"}'
BUCKET = 'http_request_duration_seconds_bucket{job="service", route="/predict", le="%s"}'
READY = 'inference_ready_workers{job="service"}'
CASES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "ServiceDown": ({'up{job="service"}': "0x30"}, {'up{job="service"}': "1x30"}),
    "ServiceNotReady": ({READY: "0x30"}, {READY: "1x30"}),
    "ServiceFails": (
        {REQUESTS % 500: "0+2x30", REQUESTS % 200: "0+98x30"},
        {REQUESTS % 503: "0+9x30", REQUESTS % 504: "0+9x30", REQUESTS % 200: "0+82x30"},
    ),
    "ServiceOverloaded": (
        {REJECTED % "queue_full": "0+1x30", REJECTED % "deadline": "0+1x30"}
        | {REQUESTS % 503: "0+1x30", REQUESTS % 504: "0+1x30", REQUESTS % 200: "0+98x30"},
        {REJECTED % "malformed": "0+9x30", REQUESTS % 400: "0+9x30", REQUESTS % 200: "0+91x30"},
    ),
    "ServiceSlow": (
        {BUCKET % "1": "0+94x30", BUCKET % "2.5": "0+100x30", BUCKET % "+Inf": "0+100x30"},
        {BUCKET % "1": "0+96x30", BUCKET % "2.5": "0+100x30", BUCKET % "+Inf": "0+100x30"},
    ),
}
"""By alert: the samples of half an hour that it fires on, and some that it does not fire on."""


def test_the_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    rules = {rule["alert"]: rule for rule in RULES}
    assert CASES.keys() == rules.keys()
    tests = []
    for alert, (firing, quiet) in CASES.items():
        fired = {
            "exp_labels": {"job": "service", **rules[alert]["labels"]},
            "exp_annotations": rules[alert]["annotations"],
        }
        for samples, expected in ((firing, [fired]), (quiet, [])):
            tests.append(
                {
                    "interval": "1m",
                    "input_series": [
                        {"series": series, "values": values} for series, values in samples.items()
                    ],
                    "alert_rule_test": [
                        {"eval_time": "30m", "alertname": alert, "exp_alerts": expected}
                    ],
                }
            )
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "tests": tests}), encoding="utf-8")
    command = ["promtool", "test", "rules", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def compose(bench: Workbench) -> dict[str, Any]:
    document = yaml.safe_load((bench.project(ALL_VARIANTS[0]) / "compose.yaml").read_bytes())
    assert isinstance(document, dict)
    return document


def test_every_container_is_limited_locked_down_and_local(bench: Workbench) -> None:
    services = compose(bench)["services"]
    assert {name: service.get("profiles") for name, service in services.items()} == {
        "service": None,
        "prometheus": ["observability"],
        "grafana": ["observability"],
    }
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service.keys() >= {"cpus", "mem_limit", "pids_limit", "healthcheck"}
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_grafana_finds_what_is_provisioned(bench: Workbench) -> None:
    project = bench.project(ALL_VARIANTS[0])
    services = compose(bench)["services"]
    mounts = dict(volume.split(":")[1::-1] for volume in services["grafana"]["volumes"])
    provisioning = project / mounts["/etc/grafana/provisioning"]
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_bytes())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards/service.yaml").read_bytes())[
        "providers"
    ]
    shown = Path(services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(shown.parent) == provider["options"]["path"]
    assert (project / mounts[str(shown.parent)] / shown.name).is_file()


def test_none_of_it_gets_into_the_image(bench: Workbench) -> None:
    project = bench.project(ALL_VARIANTS[0])
    lines = (project / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert "src" in sent
    assert not sent & {"compose.yaml", "deploy"}
