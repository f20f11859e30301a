"""The metrics and labels that queries name: of the alerts and of the panels of the dashboard."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml
from promql_parser import AggregateExpr, BinaryExpr, Expr, VectorSelector, parse, walk

from inferplate.template.source import template_root

_DEPLOY: Final = template_root() / "template/service/deploy"
DASHBOARD: Final = _DEPLOY / "grafana/dashboards/service.json"
ALERTS: Final = _DEPLOY / "prometheus/alerts.yml"
VARIABLES: Final = {"$job": "service", "$instance": ".*", "$model": ".*"}
"""Variables of the dashboard, and what they are when nothing was chosen."""
SCRAPED: Final = frozenset({"job", "instance", "namespace"})
"""Labels that Prometheus gives to every metric of a target; the last in Kubernetes only."""


@dataclass(frozen=True)
class Named:
    """What a query names: metrics, each with its labels and their values, and other labels."""

    selected: tuple[tuple[str, dict[str, str]], ...]
    grouped: frozenset[str]

    @property
    def metrics(self) -> set[str]:
        return {metric for metric, _ in self.selected}


def named(query: str) -> Named:
    """Return what a query names."""
    selected: list[tuple[str, dict[str, str]]] = []
    grouped: set[str] = set()

    def collect(expression: Expr) -> None:
        match expression:
            case VectorSelector():
                labels = {each.name: each.value for each in expression.matchers.matchers}
                selected.append((expression.name or "", labels))
            case AggregateExpr() if expression.modifier:
                grouped.update(expression.modifier.labels)
            case BinaryExpr() if expression.modifier and expression.modifier.matching:
                grouped.update(expression.modifier.matching.labels)

    walk(parse(query), collect)
    return Named(tuple(selected), frozenset(grouped))


def family(sample: str) -> str:
    """Return the name of the metric that a sample belongs to, as the reference lists it."""
    for suffix in ("_bucket", "_sum", "_count"):
        sample = sample.removesuffix(suffix)
    return sample


def alerts() -> list[dict[str, Any]]:
    """Read the alerts."""
    rules: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_bytes())["groups"][0]["rules"]
    return rules


def panels() -> list[dict[str, Any]]:
    """Read the panels of the dashboard."""
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_bytes())["panels"]
    return found


def queries(panel: dict[str, Any], window: str = "5m", **chosen: str) -> Iterator[str]:
    """Yield the queries of a panel, with variables filled in. ``chosen``: those that differ."""
    values = VARIABLES | {f"${name}": value for name, value in chosen.items()}
    for target in panel["targets"]:
        query: str = target["expr"].replace("$__rate_interval", window)
        for variable, value in values.items():
            query = query.replace(variable, value)
        yield query


def used_by() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return, by metric, the names of the alerts and the titles of the panels that use it."""
    by_alert: dict[str, list[str]] = {}
    by_panel: dict[str, list[str]] = {}
    for rule in alerts():
        for metric in sorted({family(each) for each in named(rule["expr"]).metrics}):
            by_alert.setdefault(metric, []).append(rule["alert"])
    for panel in panels():
        found = {family(each) for query in queries(panel) for each in named(query).metrics}
        for metric in sorted(found):
            by_panel.setdefault(metric, []).append(panel["title"])
    return by_alert, by_panel


def labels_of(sample: str, declared: frozenset[str]) -> frozenset[str]:
    """Return the labels that a sample has. ``declared``: those of its metric."""
    return declared | SCRAPED | ({"le"} if sample.endswith("_bucket") else set())
