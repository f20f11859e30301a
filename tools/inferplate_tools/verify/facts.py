"""What the template knows of each framework, runtime and server: their ``facts.jinja``."""

from pathlib import Path
from typing import Any


def read_facts(template: Path, folder: str) -> dict[str, Any]:
    """Read the variables of a folder's facts, such as those of ``runtimes/onnxruntime``."""
    from jinja2 import FileSystemLoader
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(loader=FileSystemLoader(template))
    facts = environment.get_template(f"template/{folder}/facts.jinja")
    return {name: value for name, value in vars(facts.module).items() if not name.startswith("_")}
