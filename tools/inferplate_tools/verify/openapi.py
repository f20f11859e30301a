"""The OpenAPI document of a service, equal for all frameworks."""

import difflib
import json
from pathlib import Path
from typing import Any, Final

from inferplate.template.variants import WITHOUT_HANDLER, Variant
from inferplate_tools.errors import CheckFailed
from inferplate_tools.repository import SNAPSHOTS
from inferplate_tools.verify.facts import read_facts
from inferplate_tools.workbench import Workbench

_SECONDS: Final = 120


def check_openapi(bench: Workbench, variant: Variant) -> None:
    """Compare the document that ``python -m service openapi`` writes with the snapshot."""
    path = snapshot_path(bench, variant)
    if not path.exists():
        raise CheckFailed(f"{path} does not exist")
    expected, found = path.read_text(encoding="utf-8"), document(bench, variant)
    if expected != found:
        changes = difflib.unified_diff(
            expected.splitlines(), found.splitlines(), path.name, variant.name, lineterm="", n=1
        )
        raise CheckFailed(f"the OpenAPI document is not {path.name}\n" + "\n".join(changes))


def document(bench: Workbench, variant: Variant) -> str:
    """Have the variant write its OpenAPI document, without a model's examples, and normalise it."""
    command = [bench.python, "-m", "service", "openapi"]
    project, settings = bench.project(variant), {"SERVICE_MODEL_DIR": "none"}
    written = bench.run(command, project, timeout=_SECONDS, settings=settings)
    try:
        return normalised(json.loads(written))
    except json.JSONDecodeError as error:
        raise CheckFailed(f"'python -m service openapi' did not write JSON: {error}") from None


def normalised(document: Any) -> str:
    """Write a document with its keys, and the lists whose order says nothing, in one order."""
    return json.dumps(_ordered(document), indent=2, ensure_ascii=False) + "\n"


def snapshot_path(bench: Workbench, variant: Variant) -> Path:
    """Name the snapshot of the variant's example model, or of the protocol alone."""
    name = "protocol"
    if variant.task != WITHOUT_HANDLER:
        name = read_facts(bench.template(), f"examples/{variant.task}")["model"]
    return SNAPSHOTS / f"openapi-{name}.json"


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: sorted(item) if key in {"required", "tags"} and _plain(item) else _ordered(item)
            for key, item in sorted(value.items())
        }
    return [_ordered(item) for item in value] if isinstance(value, list) else value


def _plain(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
