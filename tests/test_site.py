"""The documentation site: its pages, its links, its reference and its tutorial."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from inferplate.template.source import template_root
from inferplate.template.variants import Variant
from inferplate_tools.client import ask
from inferplate_tools.service import Service
from inferplate_tools.workbench import Workbench

ROOT = template_root()
DOCS = ROOT / "docs"
NAVIGATION: list[Any] = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))[
    "project"
]["nav"]
NOT_PAGES = re.compile(r"benchmarks/2")
"""Results of benchmarks, which the page on benchmarks links to."""
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}


class Page(HTMLParser):
    """What a page links to, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            self.ids.add(given["id"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in LOADED and given.get(LOADED[tag]):
            self.loaded.append(given[LOADED[tag]])
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next", "alternate"):
            self.loaded.append(given["href"])


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, strictly: a warning is an error."""
    place = tmp_path_factory.mktemp("site")
    shutil.copytree(DOCS, place / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "zensical.toml", place)
    command = [str(Path(sys.executable).parent / "zensical"), "build", "--strict"]
    done = subprocess.run(command, cwd=place, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "site"


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


def listed(entries: list[Any]) -> Iterator[str]:
    """Yield the pages of a navigation."""
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        else:
            for below in entry.values():
                yield from listed(below if isinstance(below, list) else [below])


def test_every_page_is_in_the_navigation_once() -> None:
    found = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    shown = list(listed(NAVIGATION))
    assert sorted(shown) == sorted(path for path in found if not NOT_PAGES.match(path))


def test_every_link_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    assert len(pages) > 25
    for path, page in pages.items():
        for link in page.links:
            target = urlsplit(link)
            if target.scheme or target.netloc:
                assert target.scheme == "https" or target.hostname == "127.0.0.1", (path, link)
                continue
            place = (path.parent / unquote(target.path)).resolve() if target.path else path
            place = place / "index.html" if place.is_dir() else place
            assert place.is_relative_to(site.resolve()), (path, link)
            assert place.exists(), (path, link)
            if target.fragment and place.suffix == ".html":
                known = pages.get(place) or Page(place)
                assert unquote(target.fragment) in known.ids, (path, link)


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert page.loaded
        for address in page.loaded:
            assert not urlsplit(address).netloc, (path, address)
            assert (path.parent / unquote(urlsplit(address).path)).exists(), (path, address)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_the_reference_says_what_the_code_says(tmp_path: Path) -> None:
    write = DOCS / "reference/write.py"
    subprocess.run([sys.executable, str(write), str(tmp_path)], check=True)
    for path in tmp_path.iterdir():
        committed = (DOCS / "reference" / path.name).read_text(encoding="utf-8")
        assert committed == path.read_text(encoding="utf-8"), "run 'make reference'"


def test_pages_name_settings_that_there_are() -> None:
    known = re.findall(r"^\| `(SERVICE_\w+)`", (DOCS / "reference/settings.md").read_text(), re.M)
    assert len(known) > 30
    ray = (ROOT / "template/service/deploy/ray/application.py").read_text(encoding="utf-8")
    known += [
        f"SERVICE_RAY_{name.upper()}" for name in re.findall(r"^    (\w+): .* = Field", ray, re.M)
    ]
    for page in DOCS.glob("*.md"):
        named = set(re.findall(r"`(SERVICE_[A-Z_]+)", page.read_text(encoding="utf-8")))
        assert named <= set(known), page.name


TUTORIAL = (DOCS / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TUTORIAL, re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]


@pytest.mark.slow
def test_the_tutorial_works_as_it_stands(bench: Workbench, tmp_path: Path) -> None:
    (training,) = (text for kind, text in BLOCKS if kind == "python")
    (shown,) = (text for kind, text in BLOCKS if kind == "json")
    (new,) = (line for line in COMMANDS if line.startswith("inferplate new "))
    options = shlex.split(new)[3:]
    assert options == ["--defaults", "--runtime", "scikit-learn"]
    project = tmp_path / "churn"
    shutil.copytree(bench.project(Variant("fastapi", "scikit-learn", "uvicorn")), project)
    shutil.rmtree(project / "models", ignore_errors=True)
    (project / "train.py").write_text(training, encoding="utf-8")
    for line in COMMANDS:
        if line in ("uv run train.py",) or line.startswith("uv run python -m service manifest"):
            words = [bench.python, *shlex.split(line)[2:]]
            words = [word for word in words if word != "python"]
            bench.run(words, project, timeout=120, settings={"PYTHONPATH": "src"})
    (request,) = (line for line in COMMANDS if line.startswith("curl "))
    address, _, body = shlex.split(request)[1:]
    path = urlsplit(address).path
    with Service(project, bench.python, {"SERVICE_THREADS": "1"}) as service:
        service.wait_ready()
        json_type = {"Content-Type": "application/json"}
        answer = ask(service.port, "POST", path, body.encode(), json_type)
        unseen = json.loads(body)
        unseen["instances"][0]["plan"] = "none"
        refused = ask(service.port, "POST", path, json.dumps(unseen).encode(), json_type)
    pattern = re.escape(shown.strip()).replace("…", r"[\de-]+")
    assert re.fullmatch(pattern, answer.body.decode()), answer.body
    assert refused.status == 422
    assert refused.json()["errors"][0]["field"] == "instances.0.plan"
    for target in ("lint", "test"):
        bench.run(["make", target, "RUN="], project, timeout=300, settings=bench_path(bench))
    makefile = (project / "Makefile").read_text(encoding="utf-8")
    for target in {
        word for line in COMMANDS if line.startswith("make ") for word in line.split()[1:]
    }:
        assert f"\n{target}:" in makefile


def bench_path(bench: Workbench) -> dict[str, str]:
    return {"PATH": f"{Path(bench.python).parent}:/usr/bin:/bin"}
