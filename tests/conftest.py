"""The options, the shared workbench and the closing report of the template's own tests."""

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from history import OLDEST, MakeProject, edits_table, emitted, history, repository
from images import markdown_table

import service.ops
from inferplate.__main__ import main
from inferplate.template.questions import read_questions
from inferplate.template.source import template_root
from inferplate.template.variants import WITHOUT_HANDLER, Variant, covering, served, variants
from inferplate_tools.verify.checks import CHECKS, IN_PARTS, Check
from inferplate_tools.workbench import Workbench

# What is emitted from another folder than the rest of its package.
for _folder in ("handlers/predict", "accelerators/cpu"):
    service.ops.__path__.append(str(template_root() / "template" / _folder / "src/service/ops"))

EVERY_VARIANT = variants(read_questions(template_root()))
ALL_VARIANTS = [variant for variant in EVERY_VARIANT if variant.has_first_task]
"""Every framework, runtime and server, each runtime with the first of its tasks."""
COVERING_VARIANTS = covering(ALL_VARIANTS)
FURTHER_TASKS: dict[str, list[Variant]] = {}
"""The other variants, by their task."""
for _variant in EVERY_VARIANT:
    if not _variant.has_first_task:
        FURTHER_TASKS.setdefault(_variant.task, []).append(_variant)
SERVER_VARIANTS = [
    variant
    for variant in ALL_VARIANTS
    if (variant.framework, variant.runtime) == ("fastapi", "onnxruntime")
]
"""One for each server."""

FOREIGN = Path(__file__).parent / "foreign"

collect_ignore = ["conformance", "foreign", "native"]  # run inside emitted services

Covers = Callable[[str, object, int], None]
Run = Callable[..., tuple[int, str, str]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick",
        action="store_true",
        help="one variant per framework, runtime and server, and no test marked as slow",
    )
    parser.addoption(
        "--update-snapshots", action="store_true", help="write the OpenAPI snapshots anew"
    )
    parser.addoption(
        "--require-images",
        action="store_true",
        help="fail where no Docker engine answers, instead of leaving the images out",
    )
    parser.addoption(
        "--require-pythons",
        action="store_true",
        help="fail where a Python that the template offers is missing, instead of leaving it out",
    )
    parser.addoption(
        "--exhaustive",
        action="store_true",
        help="for each framework 10,000 requests made of the OpenAPI document and 51,000 mutated "
        "ones, instead of 500 and 15,000",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: left out by --quick")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--quick"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "variant" in metafunc.fixturenames and "check" in metafunc.fixturenames:
        pairs = plan_checks(quick=metafunc.config.getoption("--quick"))
        ids = [f"{variant}-{check.name}" for variant, check in pairs]
        metafunc.parametrize(("variant", "check"), pairs, ids=ids)


def plan_checks(*, quick: bool) -> list[tuple[Variant, Check]]:
    """Pair variants with the checks that they get here; ``inferplate-verify`` makes all of all.

    All variants are rendered, linted and typed, and run their tests; those with a handler have
    their dependencies and their OpenAPI document checked. With the first task of its runtime each
    is served, too, and of the rest those of `served`. The tests run in parts, since most of them
    have the same files in many variants; a few run the whole suite at once, as their owners do.
    """
    if quick:
        few = [*COVERING_VARIANTS, *(covering(found)[0] for found in FURTHER_TASKS.values())]
        return [(variant, check) for variant in few for check in CHECKS.values()]
    running = served(EVERY_VARIANT)
    with_handler = [each for each in EVERY_VARIANT if each.task != WITHOUT_HANDLER]
    documents = {*with_handler, *running}
    further = (covering(found)[0] for found in FURTHER_TASKS.values())
    whole = {*{each.framework: each for each in COVERING_VARIANTS}.values(), *further}
    chosen = {"dependencies": documents, "openapi": documents, "server": running}

    def checks_of(variant: Variant) -> Iterator[Check]:
        for check in CHECKS.values():
            if check.name == "suite" and variant not in whole:
                yield from IN_PARTS
            elif variant in chosen.get(check.name, EVERY_VARIANT):
                yield check

    return [(variant, check) for variant in EVERY_VARIANT for check in checks_of(variant)]


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """Give every process of this run the same workbench."""
    base = tmp_path_factory.getbasetemp()
    parallel = hasattr(request.config, "workerinput")
    return Workbench((base.parent if parallel else base) / "bench")


@pytest.fixture
def template(bench: Workbench) -> Path:
    return bench.template()


@pytest.fixture
def copy_of(bench: Workbench, tmp_path: Path) -> Callable[[Variant], Path]:
    """Give a test a copy of a variant, with its model, that it may change."""

    def make(variant: Variant) -> Path:
        copy = tmp_path / variant.name
        shutil.copytree(bench.project(variant), copy)
        shutil.copytree(bench.artifact(variant), copy / "models", dirs_exist_ok=True)
        return copy

    return make


@pytest.fixture
def adder(bench: Workbench, tmp_path: Path) -> Callable[..., Path]:
    """Give a test a service of its own, with a model that adds the numbers of each row."""

    def make(framework: str = "fastapi", server: str = "uvicorn") -> Path:
        project = tmp_path / f"{framework}-{server}"
        shutil.copytree(bench.project(Variant(framework, "python", server)), project)
        shutil.rmtree(project / "models", ignore_errors=True)
        shutil.copy(FOREIGN / "runtime.py", project / "src/service")
        shutil.copy(FOREIGN / "train.py", project)
        bench.run([bench.python, "train.py"], project, timeout=60)
        return project

    return make


@pytest.fixture
def make_project(bench: Workbench, tmp_path: Path) -> MakeProject:
    """Give a test a project of its own, emitted by Copier from a version and committed."""

    def make(variant: Variant = ALL_VARIANTS[0], version: str = OLDEST) -> Path:
        project = tmp_path / "project"
        shutil.copytree(emitted(bench, variant, version), project)
        repository(project)
        return project

    return make


@pytest.fixture
def forked(bench: Workbench, tmp_path: Path) -> Path:
    """Give a test a history of the template that it may continue."""
    return Path(shutil.copytree(history(bench), tmp_path / "template"))


@pytest.fixture
def inferplate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Give a test the command line, run in this process: exit code, output, errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["inferplate", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            main()
        printed = capsys.readouterr()
        assert isinstance(exited.value.code, int)
        return exited.value.code, printed.out, printed.err

    return run


@pytest.fixture
def covers(record_property: Callable[[str, object], None]) -> Covers:
    """Let a test say which combination, out of how many, it covers when it passes."""

    def cover(check: str, combination: object, total: int) -> None:
        record_property("covers", [check, str(combination), total])

    return cover


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what became of edits, images, what was left out, and what was covered."""
    _summarize_edits(terminalreporter)
    _summarize_images(terminalreporter)
    _summarize_left_out(terminalreporter)
    _summarize_coverage(terminalreporter)


def _summarize_edits(terminalreporter: Any) -> None:
    reports = [
        report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)
    ]
    outcomes = [value for report in reports for value in _properties(report, "edits")]
    if outcomes:
        terminalreporter.write_sep("=", "edits x updates")
        for line in edits_table(outcomes):
            terminalreporter.write_line(line)


def _summarize_images(terminalreporter: Any) -> None:
    passed = terminalreporter.getreports("passed")
    rows = [value for report in passed for value in _properties(report, "image")]
    if rows:
        terminalreporter.write_sep("=", "images")
    for line in markdown_table(sorted(rows, key=itemgetter("image MB"))):
        terminalreporter.write_line(line)


def _summarize_left_out(terminalreporter: Any) -> None:
    left_out = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.getreports("skipped")
    )
    if left_out:
        terminalreporter.write_sep("=", "left out")
    for reason, tests in left_out.items():
        terminalreporter.write_line(f"{tests} tests: {reason}", yellow=True)


def _summarize_coverage(terminalreporter: Any) -> None:
    covered: dict[str, set[str]] = {}
    totals: dict[str, int] = {}
    seconds: dict[str, float] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for check, combination, total in _properties(report, "covers"):
                covered.setdefault(check, set())
                totals[check] = total
                seconds[check] = seconds.get(check, 0) + report.duration
                if outcome == "passed":
                    covered[check].add(combination)
    if not covered:
        return
    terminalreporter.write_sep("=", "combinations covered by each check")
    width = max(len(check) for check in covered)
    for check, combinations in sorted(covered.items(), key=lambda item: -totals[item[0]]):
        count = f"{len(combinations)} of {totals[check]}"
        complete = len(combinations) == totals[check]
        terminalreporter.write_line(
            f"{check:<{width}}  {count:>9}  {seconds[check]:7.0f} s",
            green=complete,
            yellow=not complete,
        )


def _properties(report: Any, wanted: str) -> Iterator[Any]:
    for name, value in getattr(report, "user_properties", ()):
        if name == wanted and report.when == "call":
            yield value
