"""Writes the reference pages of the site anew: python docs/reference/write.py [FOLDER].

They say what the code says: the questions of copier.yml, the commands, the settings, the metrics
and the errors of an emitted service.
"""

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from prometheus_client import ProcessCollector
from prometheus_client.metrics import MetricWrapperBase

from inferplate.template.questions import read_choices, read_questions
from inferplate.template.source import template_root

ROOT: Final = template_root()
SERVICE: Final = ROOT / "template/service/src"
sys.path[:0] = [str(SERVICE), str(ROOT / "tests")]

import service.ops  # noqa: E402

service.ops.__path__.append(str(ROOT / "template/handlers/predict/src/service/ops"))

from promql import alerts as alerts_of_service  # noqa: E402
from promql import used_by  # noqa: E402

from service.core import errors as core_errors  # noqa: E402
from service.ops import metrics  # noqa: E402
from service.ops.settings import settings_table  # noqa: E402
from service.web import errors as web_errors  # noqa: E402
from service.web.openapi import document  # noqa: E402

_SAMPLES: Final[dict[str, Any]] = {"detail": "", "retry_after": 1, "errors": [], "param": ""}
"""An argument for each parameter of the errors."""
_QUESTIONS: Final = """\
`inferplate new` asks them in this order; Enter takes the default. `--set NAME=VALUE` answers one on
the command line, `--ask` asks the advanced ones too. Plain Copier takes `--data NAME=VALUE`.
"""
_SETTINGS: Final = """\
Environment variables of an emitted service, or lines of its file `.env`. One that is wrong or
unknown stops the start, with a line that names it. `python -m service settings` lists them with
their values, your own among them.
"""
_METRICS: Final = """\
`/metrics` has them in the format of Prometheus, of all workers together; with
`SERVICE_METRICS_PORT` on a port of its own. [Monitoring](../monitoring.md) says what to look at.
With one worker, the page also has what prometheus-client says of the process and of Python
(`process_*`, `python_*`).
"""
_ALERTS: Final = """\
They are in `deploy/prometheus/alerts.yml`, and for the Prometheus operator in the component
`prometheus` of `deploy/kubernetes`. No alert names a job.
"""
_UNUSED: Final = {
    "process_virtual_memory_bytes": "None: resident memory says what is used.",
}
"""Why no alert and no panel uses a metric."""
_ERRORS: Final = """\
Outside `/v2` an error is a problem document (RFC 9457, `application/problem+json`), under `/v2` it
is `{"error": "…"}`, under `/v1/embeddings` that of OpenAI. Each has the id of the request in
`X-Request-Id`.
"""


def questions() -> Iterator[str]:
    """Write what the template asks."""
    yield "# Questions\n"
    yield _QUESTIONS
    for name, question in read_questions(ROOT).items():
        if question.get("when") is False:
            continue
        yield f"## {name}\n"
        advanced = question.get("ask") is False
        yield f"{question['help']}{' Asked with `--ask` only.' if advanced else ''}\n"
        for choice in read_choices(question.get("choices", ())):
            label = "" if choice.label == choice.value else f": {choice.label}"
            yield f"- `{choice.value}`{label}"
        if question.get("choices"):
            yield ""
        yield from _default_of(question.get("default"))


def _default_of(default: Any) -> Iterator[str]:
    text = ", ".join(default) if isinstance(default, list) else str(default if default else "")
    if text and "{" not in text:
        yield f"Default: `{text}`\n"


def command_line() -> Iterator[str]:
    """Write the help of every command, as Typer writes it."""
    command = [sys.executable, "-m", "typer", "inferplate.cli", "utils", "docs", "--name"]
    done = subprocess.run(  # noqa: S603 - ours
        [*command, "inferplate"], check=True, capture_output=True, text=True
    )
    yield "# Command line\n"
    yield done.stdout.partition("\n")[2].strip() + "\n"


def settings() -> Iterator[str]:
    """Write the settings of a service."""
    yield "# Settings\n"
    yield _SETTINGS
    yield "| variable | default | what it does |\n|---|---|---|"
    for variable, default, description in settings_table():
        yield f"| `{variable}` | {f'`{default}`' if default else ''} | {description} |"
    yield ""


def metrics_page() -> Iterator[str]:
    """Write the metrics of a service, each with the alerts and the panels that use it.

    Raises:
        ValueError: no alert and no panel uses a metric, and nothing says why; or both is the case.
    """
    by_alert, by_panel = used_by()
    yield "# Metrics\n"
    yield _METRICS
    yield "| metric | type | labels | unit | what it says | alerts | panels |"
    yield "|---|---|---|---|---|---|---|"
    for metric in (*_own_metrics(), *_process_metrics()):
        alerts = ", ".join(f"`{name}`" for name in by_alert.get(metric.name, ()))
        # A panel that is filtered by the model names the metric that knows the model.
        of_metric = [
            title
            for title in by_panel.get(metric.name, ())
            if metric.name != "inference_model_info" or title == "Model"
        ]
        reason = _UNUSED.get(metric.name, "")
        if bool(alerts or of_metric) == bool(reason):
            raise ValueError(f"{metric.name}: an alert or a panel uses it, or _UNUSED says why not")
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        yield (
            f"| `{metric.name}` | {metric.kind} | {labels} | {metric.unit} | {metric.text} "
            f"| {alerts} | {', '.join(of_metric) or reason} |"
        )
    yield "\n## Alerts\n"
    yield _ALERTS
    for rule in alerts_of_service():
        told = rule["annotations"]
        yield f"### {rule['alert']}\n"
        yield f"*{rule['labels']['severity']}, after {rule['for']}.* {told['summary']}."
        yield f"{told['description']}\n"
        yield f"What to do: {told['action']}\n"
        yield f"```text\n{rule['expr'].strip()}\n```\n"


class _Metric(NamedTuple):
    """A metric as the page lists it."""

    name: str
    kind: str
    labels: Sequence[str]
    unit: str
    text: str | None


def _own_metrics() -> Iterator[_Metric]:
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            name = metric._name + ("_total" if metric._type == "counter" else "")
            kind, labels = metric._type or "", metric._labelnames
            yield _Metric(name, kind, labels, _unit(name), metric._documentation)


def _process_metrics() -> Iterator[_Metric]:
    """Yield what the service sums up over the processes of its workers."""
    found = {metric.name: metric for metric in ProcessCollector(registry=None).collect()}
    for name in metrics._PROCESS_METRICS:
        metric = found[name]
        sample = name + ("_total" if metric.type == "counter" else "")
        yield _Metric(sample, metric.type, (), _unit(sample), metric.documentation)


def _unit(name: str) -> str:
    """Return the unit of a metric, which is in its name; nothing for one that just counts."""
    words = name.removesuffix("_total").split("_")
    return next((unit for unit in ("seconds", "bytes", "rows") if unit in words), "")


def errors() -> Iterator[str]:
    """Write the errors of a service: by status, then by the reason that is counted."""
    yield "# Errors\n"
    yield _ERRORS
    yield "| status | when |\n|---|---|"
    for status, text in document._FAILURES.items():
        yield f"| {status} | {text} |"
    yield "\n`inference_rejected_total` counts them by reason:\n"
    yield "| reason | status | what happened |\n|---|---|---|"
    found = [*vars(core_errors).values(), *vars(web_errors).values()]
    by_reason: dict[str, list[type[Any]]] = {}
    for kind in dict.fromkeys(each for each in found if inspect.isclass(each)):
        if issubclass(kind, core_errors.ServiceError) and kind.__dict__.get("reason"):
            by_reason.setdefault(kind.__dict__["reason"], []).append(kind)
    for reason, kinds in sorted(by_reason.items()):
        statuses = sorted(set(map(_status, kinds)))
        texts = " ".join(dict.fromkeys(map(_about, kinds)))
        yield f"| `{reason}` | {', '.join(statuses)} | {texts} |"
    yield ""


def _sample(kind: type[Any]) -> Any:
    """Make an error with the arguments that it needs."""
    parameters = inspect.signature(kind).parameters.values()
    needed = {each.name: _SAMPLES[each.name] for each in parameters if each.default is each.empty}
    return kind(**needed)


def _status(kind: type[Any]) -> str:
    status = web_errors.status_of(_sample(kind))
    return "none is sent" if status == web_errors.CLIENT_CLOSED_REQUEST else str(int(status))


def _about(kind: type[Any]) -> str:
    """Return the first paragraph of the error's own documentation, or else its text."""
    own = inspect.cleandoc(kind.__dict__.get("__doc__") or "").split("\n\n")[0]
    return " ".join(own.split()) or _sample(kind).detail


PAGES: Final[dict[str, Callable[[], Iterator[str]]]] = {
    "questions.md": questions,
    "command-line.md": command_line,
    "settings.md": settings,
    "metrics.md": metrics_page,
    "errors.md": errors,
}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, write in PAGES.items():
        (folder / name).write_text("\n".join(write()), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
