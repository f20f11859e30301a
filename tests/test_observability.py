"""Prometheus, its alerts and the dashboard that ``compose.yaml`` brings, and their metrics."""

import json
import math
import re
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
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from promql import (
    ALERTS,
    DASHBOARD,
    SCRAPED,
    alerts,
    family,
    labels_of,
    named,
    panels,
    queries,
    used_by,
)

from inferplate.template.render import render
from inferplate.template.source import template_root
from inferplate_tools.client import HOST, ask, post_json
from inferplate_tools.golden import Golden
from inferplate_tools.service import Service, free_port, wait_until
from inferplate_tools.workbench import Workbench
from service.ops import device_memory, metrics

SERVICE = template_root() / "template/service"
RULES = alerts()
PANELS = panels()

OF_PROMETHEUS = {"up", "ALERTS"}
"""Metrics that Prometheus makes itself."""
SCRAPE_INTERVAL, WINDOW = "500ms", "5s"
DATA_SECONDS = 60
PUBLISHED_SECONDS = 5
PAUSE = 0.02


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
    missing = [
        query
        for panel in PANELS
        for chosen in ({}, {"instance": HOST + ":.*", "model": "(iris|other)"})
        for query in queries(panel, WINDOW, **chosen)
    ]

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
    wanted = {metric for query in ALL_QUERIES.values() for metric in named(query).metrics}
    samples: list[Sample] = []

    def complete() -> bool:
        # Each worker publishes from time to time what it did, and another one may be asked.
        page = ask(service.port, "GET", "/metrics").body.decode()
        samples[:] = [s for family in text_string_to_metric_families(page) for s in family.samples]
        return wanted - {sample.name for sample in samples} == OF_PROMETHEUS

    with running(bench, tmp_path, workers) as service:
        post_json(service.port, "/predict", Golden.of(service.project).typed_request)
        post_json(service.port, "/predict", {})
        assert wait_until(complete, PUBLISHED_SECONDS), wanted - {s.name for s in samples}
        processes = psutil.Process(service.pid).children(recursive=True) if workers > 1 else []
        resident = [process.memory_info().rss for process in processes]
    (told,) = [s.value for s in samples if s.name == "process_resident_memory_bytes"]
    assert told > max(resident, default=0), "the memory of all workers, not of one"


def test_promtool_accepts_the_configuration() -> None:
    configuration = SERVICE / "deploy/prometheus/prometheus.yml"
    command = ["promtool", "check", "config", "--lint-fatal", str(configuration)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


TARGET = 'job="%s", instance="10.0.0.1:8000", namespace="shop"'
OTHER_TARGET = 'job="%s", instance="10.0.0.2:8000", namespace="shop"'
ANOTHER_JOB = 'job="node", instance="10.0.0.1:9100", namespace="shop"'


def series(metric: str, target: str = TARGET, **labels: object) -> str:
    matchers = [target, *(f'{name}="{value}"' for name, value in labels.items())]
    return metric + "{" + ", ".join(matchers) + "}"


def requests(status: int) -> str:
    return series("http_requests_total", route="/predict", status=status)


def rejected(reason: str) -> str:
    return series("inference_rejected_total", reason=reason)


def faster(seconds: str) -> str:
    return series("http_request_duration_seconds_bucket", route="/predict", le=seconds)


def model(target: str, name: str, version: int) -> str:
    return series("inference_model_info", target, name=name, version=version)


def build(target: str, version: int) -> str:
    return series("inference_build_info", target, service="s", version=version)


UP, UP_2, UP_NODE = series("up"), series("up", OTHER_TARGET), series("up", ANOTHER_JOB)
READY = series("inference_ready_workers")
READY_2 = series("inference_ready_workers", OTHER_TARGET)
OF_JOB, OF_INSTANCE = ("job", "namespace"), ("job", "namespace", "instance")
CASES: dict[str, tuple[tuple[str, ...], list[dict[str, str]], list[dict[str, str]]]] = {
    "ServiceDown": (
        OF_INSTANCE,
        [
            {UP: "1x4 0x126", READY: "1x4 _x126"},
            {UP: "0x130", READY: "0x4 _x126", UP_2: "1x130", READY_2: "1x130"},
        ],
        [
            {UP: "1x130", READY: "1x130"},
            {UP: "1x4 _x126", READY: "1x4 _x126"},
            {UP: "1x130", READY: "1x130", UP_NODE: "0x130"},
            {UP: "1x4 0x9 1x117", READY: "1x4 _x9 1x117"},
        ],
    ),
    "ServiceAbsent": (
        (),
        [{UP_NODE: "1x130"}, {UP: "0x130"}, {}],
        [{READY: "0x130"}, {UP: "1x4 0x126", READY: "1x4 _x126"}],
    ),
    "ServiceNotReady": (
        OF_JOB,
        [{READY: "0x130"}],
        [{READY: "1x130"}, {READY: "0x130", READY_2: "1x130"}],
    ),
    "InstanceNotReady": (
        OF_INSTANCE,
        [{READY: "0x130", READY_2: "2x130"}],
        [{READY: "0x130", READY_2: "0x130"}, {READY: "1x130", READY_2: "2x130"}],
    ),
    "ServiceFails": (
        OF_JOB,
        [{requests(500): "0+2x130", requests(200): "0+98x130"}],
        [{requests(503): "0+9x130", requests(504): "0+9x130", requests(200): "0+82x130"}],
    ),
    "ServiceOverloaded": (
        OF_JOB,
        [
            {rejected("queue_full"): "0+1x130", rejected("deadline"): "0+1x130"}
            | {requests(503): "0+1x130", requests(504): "0+1x130", requests(200): "0+98x130"}
        ],
        [
            {rejected("malformed"): "0+9x130", requests(400): "0+9x130"}
            | {requests(200): "0+91x130"}
        ],
    ),
    "ServiceSlow": (
        OF_JOB,
        [{faster("1"): "0+94x130", faster("2.5"): "0+100x130", faster("+Inf"): "0+100x130"}],
        [{faster("1"): "0+96x130", faster("2.5"): "0+100x130", faster("+Inf"): "0+100x130"}],
    ),
    "ServiceVersionsDiffer": (
        OF_JOB,
        [
            {model(TARGET, "a", 1): "1x130", model(OTHER_TARGET, "a", 2): "1x130"},
            {model(TARGET, "a", 1): "1x130", model(OTHER_TARGET, "b", 1): "1x130"},
            {build(TARGET, 1): "1x130", build(OTHER_TARGET, 2): "1x130"},
        ],
        [
            {model(TARGET, "a", 1): "1x130", model(OTHER_TARGET, "a", 1): "1x130"}
            | {build(TARGET, 1): "1x130", build(OTHER_TARGET, 1): "1x130"},
            {model(TARGET, "a", 1): "1x130", model(OTHER_TARGET, "a", 2): "1x30 _x100"},
        ],
    ),
}
"""By alert: its labels, the samples of two hours that it fires on, and some that it does not."""
OF_TARGET = {"namespace": "shop", "instance": "10.0.0.1:8000"}


def test_the_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    job = "any/job.of-yours"
    rules = {rule["alert"]: rule for rule in RULES}
    assert CASES.keys() == rules.keys()
    tests = []
    for alert, (names, firing, quiet) in CASES.items():
        known = {"job": job, **OF_TARGET}
        fired = {
            "exp_labels": {**{name: known[name] for name in names}, **rules[alert]["labels"]},
            "exp_annotations": rules[alert]["annotations"],
        }
        for cases, expected in ((firing, [fired]), (quiet, [])):
            tests += [
                {
                    "interval": "1m",
                    "input_series": [
                        {"series": name.replace("%s", job), "values": values}
                        for name, values in samples.items()
                    ],
                    "alert_rule_test": [
                        {"eval_time": "2h", "alertname": alert, "exp_alerts": expected}
                    ],
                }
                for samples in cases
            ]
    run_rules(tests, tmp_path, "1m")


def test_a_service_that_stays_down_is_told_for_longer_than_a_day(tmp_path: Path) -> None:
    (rule,) = [rule for rule in RULES if rule["alert"] == "ServiceDown"]
    samples = {UP: "1x4 0x1000", READY: "1x4 _x1000"}
    expected = {"job": "service", **OF_TARGET, **rule["labels"]}
    fired = {"exp_labels": expected, "exp_annotations": rule["annotations"]}
    down = {
        "interval": "4m",
        "input_series": [
            {"series": name.replace("%s", "service"), "values": values}
            for name, values in samples.items()
        ],
        "alert_rule_test": [
            {"eval_time": "60h", "alertname": "ServiceDown", "exp_alerts": [fired]}
        ],
    }
    run_rules([down], tmp_path, "4m")


def run_rules(tests: list[dict[str, Any]], folder: Path, interval: str) -> None:
    """Let Prometheus' own tool evaluate the alerts."""
    path = folder / "test.yml"
    document = {"rule_files": [str(ALERTS)], "evaluation_interval": interval, "tests": tests}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    command = ["promtool", "test", "rules", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def own_families() -> dict[str, frozenset[str]]:
    """Return the labels of each metric of a service, by its name on the page of metrics."""
    processes = {name: frozenset[str]() for name in metrics._PROCESS_METRICS}
    own = [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]
    found = {each._name: frozenset(each._labelnames) for each in own} | processes
    return {name + ("_total" if name in COUNTERS else ""): labels for name, labels in found.items()}


COUNTERS = {"http_requests", "inference_rejected", "process_cpu_seconds"}
ALL_QUERIES = {rule["alert"]: rule["expr"] for rule in RULES} | {
    f"{panel['title']}, {place}": query
    for panel in PANELS
    for place, query in enumerate(queries(panel))
}


@pytest.mark.parametrize("query", ALL_QUERIES.values(), ids=ALL_QUERIES)
def test_queries_name_metrics_and_labels_that_there_are(query: str) -> None:
    families = own_families()
    known = set(SCRAPED)
    for sample, matched in named(query).selected:
        if sample in OF_PROMETHEUS:
            assert matched.keys() <= {"alertname", "alertstate"}
            continue
        labels = labels_of(sample, families[family(sample)])
        assert matched.keys() <= labels, sample
        known |= labels
    assert named(query).grouped <= known


def test_every_metric_is_in_the_reference_with_what_uses_it() -> None:
    page = (template_root() / "docs/reference/metrics.md").read_text(encoding="utf-8")
    rows = {row[0]: row for row in re.findall(r"^\| `(\w+)` \|(.*)\|(.*)\|(.*)\|$", page, re.M)}
    by_alert, by_panel = used_by()
    on_gpus = {name: frozenset(device_memory.LABELS) for name, _ in device_memory.METRICS}
    families = own_families() | on_gpus
    assert rows.keys() == families.keys()
    for metric, (_, described, alerts_, panels_) in rows.items():
        assert alerts_.strip() or panels_.strip(), metric
        assert re.findall(r"`(\w+)`", alerts_) == by_alert.get(metric, []), metric
        for title in by_panel.get(metric, []):
            assert title in panels_ or metric == "inference_model_info", (metric, title)
        for label in families[metric]:
            assert f"`{label}`" in described, metric


def test_no_alert_names_a_job_and_each_says_what_to_do() -> None:
    for rule in RULES:
        for metric, matched in named(rule["expr"]).selected:
            assert not matched.keys() & SCRAPED, (rule["alert"], metric)
        told = rule["annotations"]
        assert told.keys() == {"summary", "description", "action"}
        assert all(told.values())


def test_every_query_of_the_dashboard_uses_its_variables() -> None:
    dashboard = json.loads(DASHBOARD.read_bytes())
    variables = {each["name"]: each for each in dashboard["templating"]["list"]}
    assert list(variables) == ["datasource", "job", "instance", "model"]
    for name in ("instance", "model"):
        assert variables[name]["multi"]
        assert variables[name]["includeAll"]
    assert "current" not in variables["job"], "it is the first that there is"
    for panel in PANELS:
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            for metric, matched in named(target["expr"].replace("$__rate_interval", "5m")).selected:
                assert matched["job"] == "$job", panel["title"]
                filters_out = metric == "inference_model_info" and "instance" not in matched
                assert filters_out or matched["instance"] == "$instance", panel["title"]
            assert "$model" in target["expr"], panel["title"]
    queries_ = [variables[name]["query"]["query"] for name in ("job", "instance", "model")]
    selectors = [re.fullmatch(r"label_values\((.*), (\w+)\)", query) for query in queries_]
    for found in selectors:
        assert found is not None
        ((metric, matched),) = named(found[1]).selected
        assert {found[2], *matched} <= labels_of(metric, own_families()[metric])


def test_the_prometheus_operator_gets_the_same_alerts(tmp_path: Path) -> None:
    project = render(
        template_root(), tmp_path / "service", {"deploy": ["kubernetes"], "project_name": "Iris"}
    )
    folder = project / "deploy/kubernetes/components/prometheus"
    rule = yaml.safe_load((folder / "prometheusrule.yaml").read_bytes())
    assert rule["spec"] == yaml.safe_load(ALERTS.read_bytes())
    listed = yaml.safe_load((folder / "kustomization.yaml").read_bytes())["resources"]
    assert sorted(listed) == sorted(
        path.name for path in folder.iterdir() if path.name != "kustomization.yaml"
    )


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
