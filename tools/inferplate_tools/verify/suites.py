"""Runs the emitted tests: all of them, or a part."""

import hashlib
import json
import tomllib
from pathlib import Path
from shutil import disk_usage
from tempfile import TemporaryDirectory
from typing import Final

from inferplate.template.variants import Variant
from inferplate_tools.errors import CheckFailed
from inferplate_tools.verify.hygiene import tree
from inferplate_tools.workbench import Workbench

FOREIGN_PLUGINS: Final = (
    "copie",
    "faker",
    "hypothesispytest",
    "schemathesis",
    "xdist",
    "xdist.looponfail",
)
"""pytest plugins of the shared environment that an emitted project does not have."""

_SECONDS: Final = 300
_ROOM: Final = 2**30
_FAILURE: Final = "failure.txt"
_MANAGED: Final = "tests/managed"
_FOR_MANAGED: Final = ("src/", f"{_MANAGED}/", "tests/conftest.py", "healthcheck.py")
_REPLACED: Final = frozenset(
    f"src/service/{name}.py" for name in ("predict", "routes", "runtime", "server")
)
"""Modules that the tests in `_MANAGED` have stand-ins for, or do not use."""
_BUILD_INFO: Final = "src/service/ops/build_info.json"


def check_suite(bench: Workbench, variant: Variant) -> None:
    """Run the emitted tests."""
    bench.place_artifact(variant)
    _run_tests(bench, bench.project(variant))


def check_model(bench: Workbench, variant: Variant) -> None:
    """Run those of the emitted tests that ask the example model."""
    bench.place_artifact(variant)
    _run_tests(bench, bench.project(variant), "--ignore", _MANAGED)


def check_stand_ins(bench: Workbench, variant: Variant) -> None:
    """Run the other emitted tests, once for all variants with the same files for them.

    They run where nothing else of a variant is: no model, runtime, server or file of the owner. So
    what differs between variants with the same files cannot affect them. A failure is that of all
    these variants.
    """
    files = _files_for_managed(bench.project(variant))
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name} {len(content)}\0".encode() + content)

    def make(folder: Path) -> None:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        try:
            _run_tests(bench, folder)
        except CheckFailed as error:
            (folder / _FAILURE).write_text(str(error), encoding="utf-8")

    failure = bench.once(f"stand-ins/{digest.hexdigest()}", make) / _FAILURE
    if failure.exists():
        raise CheckFailed(failure.read_text(encoding="utf-8"))


def _files_for_managed(project: Path) -> dict[str, bytes]:
    files = {
        name: content
        for name, content in tree(project).items()
        if name.startswith(_FOR_MANAGED)
        and name not in _REPLACED
        and "__pycache__" not in name.split("/")
    }
    # It has the variant's answers; of these the tests look at the framework alone.
    answers = json.loads(files[_BUILD_INFO])
    files[_BUILD_INFO] = json.dumps({**answers, "runtime": "any", "server": "any"}).encode()
    with (project / "pyproject.toml").open("rb") as file:
        options = tomllib.load(file)["tool"]["pytest"]["ini_options"]
    lines = [f"{name} = {json.dumps(value)}" for name, value in options.items()]
    files["pyproject.toml"] = "\n".join(["[tool.pytest.ini_options]", *lines, ""]).encode()
    return files


def _run_tests(bench: Workbench, project: Path, *arguments: str) -> None:
    disabled = [part for plugin in FOREIGN_PLUGINS for part in ("-p", f"no:{plugin}")]
    # Rewriting the assertions of every variant is a tenth of the work; failures show their locals.
    shown = ["--assert=plain", "--showlocals"]
    command = [bench.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *shown, *disabled]
    with TemporaryDirectory(dir=_memory(), ignore_cleanup_errors=True) as folder:
        command += ["--basetemp", str(Path(folder, "tests"))]
        bench.run([*command, *arguments], project, timeout=_SECONDS)


def _memory() -> Path | None:
    """Return a folder in memory, where tests write their files faster; None if there is none."""
    folder = Path("/dev/shm")  # noqa: S108 - what is made in it has a name of its own
    return folder if folder.is_dir() and disk_usage(folder).free > _ROOM else None
