"""Images that the unmodified Dockerfile of an emitted project builds, run locked down and asked."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import psutil
import pytest
from conftest import ALL_VARIANTS, Covers
from history import edit, last, repository
from images import (
    DOCKER,
    LOCKED_DOWN,
    Build,
    Container,
    Image,
    closure,
    docker,
    engine_answers,
    find_base,
    image_bytes,
    image_of,
    inside_base,
    inspect,
    local_wheels,
    machine_arguments,
)
from mirrors import Folder, Index, Proxy, folder_of, serving
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from inferplate.template.questions import AXES
from inferplate.template.source import template_root
from inferplate.template.variants import Variant
from inferplate_tools.client import ask
from inferplate_tools.errors import CheckFailed
from inferplate_tools.golden import Golden
from inferplate_tools.verify.facts import read_facts
from inferplate_tools.verify.server import check_ready
from inferplate_tools.workbench import Workbench

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("engine")]

MakeImage = Callable[[Path], AbstractContextManager[Image]]

BEYOND_MEGABYTES: Final = 120
HEALTH_CPU_SECONDS: Final = 0.05
COMPILER_OR_CACHE: Final = re.compile(
    r".*/(c\+\+|cc|clang|g\+\+|gcc|ld|make|rustc)$"
    r"|/root/|/var/cache/apt/.*\.(bin|deb)$|/var/lib/apt/lists/."
)
BYTECODE_OR_INSTALLED: Final = re.compile(
    r"/opt/venv/|/opt/service/[^/]+\.dist-info/|/(opt/service|usr/local/lib)/.*\.pyc$"
)
OF_PACKAGES: Final = re.compile(
    r"/usr/(lib|share)/|/var/(cache/debconf|cache/ldconfig|lib/dpkg|log)/"
)
DEPENDENCIES: Final = "uv sync --no-default-groups --no-install-project"
CHANGED: Final = "Changed after the first build"
PYPI: Final = "https://pypi.org/simple/"
DEFAULT: Final = ALL_VARIANTS[0]
SMALLEST: Final = Variant("litestar", "python", "hypercorn")
WITH_PYTORCH: Final = Variant("fastapi", "pytorch", "granian")
RUNTIMES: Final = list(dict.fromkeys(variant.runtime for variant in ALL_VARIANTS))


def covering_pairs() -> list[Variant]:
    """Choose a variant for each pair of framework and server, every runtime among them."""
    pairs = dict.fromkeys((variant.framework, variant.server) for variant in ALL_VARIANTS)
    runtimes = chain(RUNTIMES, repeat(DEFAULT.runtime))
    return [
        Variant(framework, runtime, server)
        for (framework, server), runtime in zip(pairs, runtimes, strict=False)
    ]


COVERING: Final = covering_pairs()


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> None:
    if not engine_answers():
        give_up = pytest.fail if request.config.getoption("--require-images") else pytest.skip
        give_up("no Docker engine answers")


@pytest.fixture(scope="session")
def base(engine: None, bench: Workbench) -> str:
    """Return the base image's name, which the first of all processes finds or makes."""
    return bench.once("base", lambda path: path.write_text(find_base())).read_text()


@pytest.fixture(scope="session")
def base_inside(base: str) -> Any:
    return inside_base(base)


@pytest.fixture(scope="session")
def arguments(base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Give the build arguments that this machine needs.

    PyTorch comes from its own index, unless pip was told of a folder with its wheels: that is
    served as a mirror of the index.
    """
    needed = {"BASE": base, **machine_arguments()}
    wheels = local_wheels("torch")
    if not wheels:
        yield needed
        return
    folder = folder_of(wheels, "torch", tmp_path_factory.mktemp("mirror"))
    with serving(Folder, directory=folder) as mirror:
        yield {
            **needed,
            "PYTORCH_INDEX": f"{mirror}/",
            "UV_INDEX": f"pytorch={mirror}/",
        }


@pytest.fixture
def make_image(arguments: Mapping[str, str], bench: Workbench) -> MakeImage:
    """Give a test the image of a project, for the time of a ``with`` block."""
    return lambda project: image_of(project, arguments, bench.lock("image"))


def test_the_set_covers_every_choice_and_every_pair_of_framework_and_server() -> None:
    for axis in AXES:
        everything = {getattr(variant, axis) for variant in ALL_VARIANTS}
        assert {getattr(variant, axis) for variant in COVERING} == everything
    pairs = {(variant.framework, variant.server) for variant in COVERING}
    assert pairs == {(variant.framework, variant.server) for variant in ALL_VARIANTS}


def test_the_documented_table_is_of_the_set() -> None:
    documented = (template_root() / "docs/images.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+-[\w-]+) ", documented, re.MULTILINE)
    assert sorted(rows) == sorted(map(str, COVERING))


@pytest.mark.parametrize("built", COVERING, ids=str)
def test_built_and_asked(
    built: Variant,
    copy_of: Callable[[Variant], Path],
    make_image: MakeImage,
    bench: Workbench,
    base: str,
    base_inside: Any,
    covers: Covers,
    record_property: Callable[[str, object], None],
) -> None:
    covers("image: built, locked down, asked, stopped with a request in flight", built, 12)
    project = copy_of(built)
    golden = Golden.of(project)
    models = bench.artifact(built)
    if COVERING.index(built) < len(RUNTIMES):
        shutil.rmtree(project / "models")  # so that the build trains the example
    edit(project, {"pyproject.toml": last(f"# {uuid4()}: nothing is left of an earlier run")})
    revision = repository(project).text("rev-parse", "HEAD")
    with make_image(project) as image:
        cold = image.build()
        assert cold.cached(DEPENDENCIES) == {False}
        change_code(project)
        warm = image.build()
        check_nothing_was_installed_again(warm)
        check_configuration(image, project, revision)
        memory = "--memory=2g" if facts(built)["pytorch"] else "--memory=1g"
        with Container(image, *LOCKED_DOWN, memory, settings={}) as container:
            seconds = container.wait_healthy()
            document = ask(container.port, "GET", "/openapi.json").json()
            assert document["info"]["title"] == CHANGED
            inside = container.inside()
            check_ready(container, golden)
            check_log(container.log_lines())
            exit_code = container.exit_code
        check_content(inside, base_inside, built, project, models)
        size = image_bytes(image.tag)
        bytecode = total(inside["distributions"], "bytecode")
        declared = total(inside["distributions"], "bytes") + bytecode
        beyond = size - image_bytes(base) - declared
        record_property(
            "image",
            {
                "variant": str(built),
                "image MB": size / 1e6,
                "dependencies MB": declared / 1e6,
                "of it bytecode": bytecode / 1e6,
                "beyond MB": beyond / 1e6,
                "cold s": cold.seconds,
                "warm s": warm.seconds,
                "ready s": seconds,
                "health ms": inside["health_seconds"] * 1e3,
                "exit": exit_code,
            },
        )
    assert beyond / 1e6 <= BEYOND_MEGABYTES
    assert inside["health_seconds"] < HEALTH_CPU_SECONDS
    assert inside["main"] == {
        "command": "python -m service",
        "user": "10001",
        "capabilities": "0" * 16,
        "no_new_privileges": "1",
    }
    installers = {found["installer"] for found in inside["distributions"].values()}
    assert installers == {"uv"}


def facts(variant: Variant) -> dict[str, Any]:
    return read_facts(template_root(), f"runtimes/{variant.runtime}")


def change_code(project: Path) -> None:
    info = project / "src/service/web/service_info.json"
    names = json.loads(info.read_bytes())
    info.write_text(json.dumps({**names, "title": CHANGED}), encoding="utf-8")


def check_nothing_was_installed_again(build: Build) -> None:
    assert build.cached(DEPENDENCIES) == {True}
    assert build.cached("--group train") == {True}
    assert build.cached('pip install --upgrade "hatchling') == {True}
    assert build.cached("--target /opt/service") == {False}


def check_configuration(image: Image, project: Path, revision: str) -> None:
    """Compare labels, user and health check with what the project says."""
    own = described(project)
    configuration = image.configuration
    labels = configuration["Labels"]
    assert {key.removeprefix("org.opencontainers.image."): labels[key] for key in labels} == {
        "com.amazonaws.sagemaker.capabilities.accept-bind-to-port": "true",
        "title": own["name"],
        "version": own["version"],
        "revision": revision,
        "licenses": own["license"],
    }
    assert configuration["User"] == "10001"
    assert configuration["Healthcheck"]["Interval"] == 10 * 10**9


def check_log(lines: list[str]) -> None:
    entries = [json.loads(line) for line in lines]
    assert all(isinstance(entry, dict) for entry in entries)
    assert [entry for entry in entries if "/predict" in entry.values()]


def check_content(inside: Any, base: Any, built: Variant, project: Path, models: Path) -> None:
    """Compare what an image has beyond its base with what it should have."""
    installed = inside["distributions"]
    declared = described(project)["dependencies"]
    assert {canonicalize_name(name) for name in installed} == closure(declared, installed)
    if facts(built)["pytorch"]:
        assert installed["torch"]["version"].endswith("+cpu")

    added = set(inside["files"]) - set(base["files"])
    assert not [path for path in added if COMPILER_OR_CACHE.search(path)]
    added -= {path for path in added if BYTECODE_OR_INSTALLED.match(path)}
    code = files_below(project / "src/service", "/opt/service/service")
    assert files_below(models, "/app/models") | code | {"/app/healthcheck.py"} <= added
    added -= files_below(models, "/app/models") | code | {"/app/healthcheck.py"}
    if facts(built)["system_packages"]:
        added -= {path for path in added if OF_PACKAGES.match(path)}
    assert not added


def total(distributions: Mapping[str, Any], key: str) -> int:
    return sum(found[key] for found in distributions.values())


def files_below(folder: Path, place: str) -> set[str]:
    """List a folder's files, without bytecode, as they are named below another place."""
    return {
        f"{place}/{path.relative_to(folder).as_posix()}"
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def described(project: Path) -> dict[str, Any]:
    document = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    table: dict[str, Any] = document["project"]
    return table


@pytest.mark.parametrize("built", [SMALLEST, WITH_PYTORCH], ids=str)
def test_plain_pip_builds_it_too(
    built: Variant,
    copy_of: Callable[[Variant], Path],
    make_image: MakeImage,
    bench: Workbench,
    base_inside: Any,
) -> None:
    project = copy_of(built)
    golden = Golden.of(project)
    shutil.rmtree(project / "models")
    with make_image(project) as image:
        image.build(INSTALLER="pip")
        with Container(image, *LOCKED_DOWN, settings={}) as container:
            container.wait_healthy()
            inside = container.inside()
            check_ready(container, golden)
    check_content(inside, base_inside, built, project, bench.artifact(built))
    assert {found["installer"] for found in inside["distributions"].values()} == {"pip"}


def test_a_lock_file_is_followed_and_one_that_is_stale_is_refused(
    copy_of: Callable[[Variant], Path],
    make_image: MakeImage,
    arguments: Mapping[str, str],
    bench: Workbench,
) -> None:
    project = copy_of(SMALLEST)
    indexes = {name: value for name, value in arguments.items() if name.startswith("UV_")}

    def lock(*options: str) -> str:
        command = [bench.python, "-m", "uv", "lock", "--python", bench.python, *options]
        bench.run(command, project, timeout=120, settings=indexes)
        packages = tomllib.loads((project / "uv.lock").read_text(encoding="utf-8"))["package"]
        (version,) = (found["version"] for found in packages if found["name"] == "orjson")
        return str(version)

    newest = lock()
    locked = lock("--upgrade-package", f"orjson<{newest}")
    assert locked != newest
    with make_image(project) as image:
        image.build()
        with Container(image, *LOCKED_DOWN, settings={}) as container:
            container.wait_healthy()
            installed = container.inside()["distributions"]
        assert installed["orjson"]["version"] == locked
        edit(
            project,
            {"pyproject.toml": lambda text: text.replace("orjson>=", f"orjson>={newest}, >=")},
        )
        with pytest.raises(CheckFailed, match=r"lockfile.* needs to be updated"):
            image.build()


def test_without_another_base_the_image_is_built_on_the_pinned_one(
    base: str, bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (bench.project(SMALLEST) / "Dockerfile").read_text(encoding="utf-8")
    pinned = re.sub(r"^FROM \S+ AS pinned$", f"FROM {base} AS pinned", text, flags=re.MULTILINE)
    assert pinned != text
    (tmp_path / "Dockerfile").write_text(pinned, encoding="utf-8")
    monkeypatch.setenv("DOCKER_BUILDKIT", "1")
    name = "inferplate-pinned-base"
    options = ["--network=host", "--target", "base", "--tag", name]
    docker("build", *options, str(tmp_path), timeout=300)
    layers = inspect(base)["RootFS"]["Layers"]
    assert inspect(name)["RootFS"]["Layers"][: len(layers)] == layers


@pytest.mark.skipif(
    "HTTPS_PROXY" in machine_arguments(),
    reason="every build here goes through this machine's proxy",
)
def test_a_package_index_and_a_proxy_are_build_arguments_and_nothing_is_downloaded_twice(
    copy_of: Callable[[Variant], Path], make_image: MakeImage, arguments: Mapping[str, str]
) -> None:
    project = copy_of(SMALLEST)
    upstream = arguments.get("UV_DEFAULT_INDEX", PYPI)
    asked: set[str] = set()
    received: Counter[str] = Counter()
    with (
        serving(Index, upstream, asked) as index,
        serving(Proxy, received) as proxy,
        make_image(project) as image,
    ):
        given = {"PIP_INDEX_URL": index, "UV_DEFAULT_INDEX": index, "HTTPS_PROXY": proxy}
        image.build("--no-cache", **given)
        environment = dict(entry.split("=", 1) for entry in image.configuration["Env"])
        downloaded = received.total()
        edit(project, {"pyproject.toml": last("# another dependency")})
        assert image.build(**given).cached(DEPENDENCIES) == {False}
    declared = {Requirement(text).name for text in described(project)["dependencies"]}
    assert {"hatchling", "uv", *map(canonicalize_name, declared)} <= asked
    assert urlsplit(upstream).hostname in received
    assert not given.keys() & environment.keys()
    again = received.total() - downloaded
    assert again < downloaded / 2, "the cache mounts keep what was downloaded"


def test_any_user_can_run_it_and_it_writes_below_tmp_alone(
    copy_of: Callable[[Variant], Path], make_image: MakeImage
) -> None:
    project = copy_of(DEFAULT)
    for path in [project, *project.rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)  # as with umask 077
    golden = Golden.of(project)
    with make_image(project) as image:
        image.build()
        with Container(image, "--user=123456:0", settings={}) as container:
            container.wait_healthy()
            user = container.inside()["main"]["user"]
            check_ready(container, golden)
            changed = container.changes()
    assert user == "123456"
    assert not [path for path in changed if not f"{path}/".startswith("/tmp/")]  # noqa: S108


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT"])
def test_the_first_process_handles_signals(
    signal: str, copy_of: Callable[[Variant], Path], make_image: MakeImage
) -> None:
    with make_image(copy_of(DEFAULT)) as image:
        image.build()
        with Container(image, *LOCKED_DOWN, settings={}) as container:
            container.wait_healthy()
            container.signal(signal)
            assert container.wait() == 0, container.failure("it did not end in order")


def test_settings_and_another_model_come_from_outside(
    copy_of: Callable[[Variant], Path], make_image: MakeImage, tmp_path: Path
) -> None:
    project = copy_of(DEFAULT)
    other = tmp_path / "other"
    shutil.copytree(project / "models", other)
    manifest = json.loads((other / "manifest.json").read_bytes())
    (other / "manifest.json").write_text(json.dumps({**manifest, "version": "other"}))
    options = [*LOCKED_DOWN, f"--volume={other}:/app/models:ro"]
    key = "a key of at least 16 characters"
    golden = Golden.of(project)
    with make_image(project) as image:
        image.build()
        with Container(image, *options, settings={"SERVICE_API_KEYS": key}) as container:
            container.wait_healthy()
            body = json.dumps(golden.typed_request).encode()
            headers = {"Content-Type": "application/json"}
            refused = ask(container.port, "POST", "/predict", body, headers)
            answer = ask(container.port, "POST", "/predict", body, {**headers, "X-API-Key": key})
    assert refused.status == 401
    assert answer.json()["model"] == {"name": golden.model, "version": "other"}


def test_make_image_check_builds_runs_and_asks(
    copy_of: Callable[[Variant], Path],
    make_image: MakeImage,
    bench: Workbench,
) -> None:
    project = copy_of(DEFAULT)
    golden = Golden.of(project)
    with make_image(project) as image:
        command = ["make", "--silent", "image-check", *image.variables()]
        with image.alone:
            printed = bench.run(command, project, timeout=900, settings={"DOCKER": DOCKER})
    answer = json.loads(printed[printed.index("{\n") :])["answer"]
    assert answer["model"] == {"name": golden.model, "version": golden.version}


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("dockerd"), reason="no engine of its own can be started"
)
def test_an_engine_that_was_started_ends_with_its_command() -> None:
    own = {"DOCKER_HOST", "ENGINE_DIR"}
    inherited = {name: os.environ[name] for name in os.environ if name not in own}
    script = 'echo "$DOCKER_HOST" && "$DOCKER" version >&2 && exit 7'
    done = subprocess.run(
        [template_root() / "tests/with-engine", "sh", "-c", script],
        env={**inherited, "DOCKER": "/nonexistent/docker"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7, done.stderr
    folder = Path(urlsplit(done.stdout.strip()).path).parent
    assert not folder.exists()
    left = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not [command for command in left if str(folder) in " ".join(command)]
