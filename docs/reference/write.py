"""Writes the reference pages of the site anew: python docs/reference/write.py [FOLDER].

They say what the code says: the questions of copier.yml, the commands, the settings, the metrics
and the errors of an emitted service.
"""

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from prometheus_client.metrics import MetricWrapperBase

from inferplate.template.questions import read_choices, read_questions
from inferplate.template.source import template_root

ROOT: Final = template_root()
SERVICE: Final = ROOT / "template/service/src"
sys.path.insert(0, str(SERVICE))

import service.ops  # noqa: E402

for _folder in ("handlers/predict", "accelerators/cpu"):
    service.ops.__path__.append(str(ROOT / "template" / _folder / "src/service/ops"))

from service.core import errors as core_errors  # noqa: E402
from service.ops import device_memory, metrics  # noqa: E402
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
    """Write the metrics of a service."""
    yield "# Metrics\n"
    yield "`/metrics` has them in the format of Prometheus, of all workers together.\n"
    yield "| metric | type | labels | what it counts |\n|---|---|---|---|"
    for metric in vars(metrics).values():
        if not isinstance(metric, MetricWrapperBase):
            continue
        name = metric._name + ("_total" if metric._type == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        yield f"| `{name}` | {metric._type} | {labels} | {metric._documentation} |"
    yield "\nOnly on a GPU, as [the page on them](../gpu.md) says:\n"
    yield "| metric | type | labels | what it counts |\n|---|---|---|---|"
    for name, documentation in device_memory.METRICS:
        labels = ", ".join(f"`{label}`" for label in device_memory.LABELS)
        yield f"| `{name}` | gauge | {labels} | {documentation} |"
    yield ""


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
