"""What the emitted README and Makefile promise, done as they say."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import COVERING_VARIANTS, FURTHER_TASKS

from inferplate.template.questions import axis_choices, read_questions
from inferplate.template.source import template_root
from inferplate.template.variants import Variant
from inferplate_tools.client import post_json
from inferplate_tools.service import Service
from inferplate_tools.workbench import Workbench
from service.ops.settings import settings_table

pytestmark = pytest.mark.slow

ONE_PER_EXAMPLE = [
    *(each for each in COVERING_VARIANTS if each.runtime in ("onnxruntime", "transformers")),
    *(variants[0] for variants in FURTHER_TASKS.values()),
]
FRAMEWORKS = [choice.value for choice in axis_choices(read_questions(template_root()))["framework"]]
CLEAR = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
UNCLEAR = {"sepal_length": 6.0, "sepal_width": 2.8, "petal_length": 4.9, "petal_width": 1.7}


@pytest.mark.parametrize("shown", ONE_PER_EXAMPLE, ids=str)
def test_the_curl_commands_answer_as_shown(
    shown: Variant, copy_of: Callable[[Variant], Path], bench: Workbench
) -> None:
    project = copy_of(shown)
    readme = (project / "README.md").read_text(encoding="utf-8")
    *typed, infer = (block for block in code_blocks(readme, "sh") if "curl http" in block)
    shown_answers = [block for block in code_blocks(readme, "") if block.startswith("{")]
    assert len(shown_answers) == (shown.task != "none"), "of /predict"
    with Service(project, bench.python, {"SERVICE_THREADS": "1"}) as service:
        service.wait_ready()
        given = ask_as_shown(infer, service.port, project, bench)
        predicted = [ask_as_shown(block, service.port, project, bench) for block in typed]
    assert json.loads(given)["outputs"]
    for answer in shown_answers:
        pattern = re.escape(answer.strip()).replace("…", r"[\d.e,-]+")
        for answers in predicted:
            assert re.fullmatch(f"({pattern})+", answers), answers


def ask_as_shown(block: str, port: int, project: Path, bench: Workbench) -> str:
    """Run the commands of a block, and return what they print, one behind the other."""
    script = block.replace("curl http", "curl --silent --fail http").replace(":8000", f":{port}")
    return bench.run(["bash", "-e", "-c", script], project, timeout=30)


@pytest.mark.parametrize("task", ["tabular", "none"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_route_that_asks_the_model_works_as_shown(
    framework: str, task: str, copy_of: Callable[[Variant], Path], bench: Workbench
) -> None:
    project = copy_of(Variant(framework, "onnxruntime", "uvicorn", task))
    readme = (project / "README.md").read_text(encoding="utf-8")
    (route,) = (block for block in code_blocks(readme, "python") if "router = " in block)
    (project / "src/service/routes.py").write_text(route, encoding="utf-8")
    for arguments in (["check"], ["format", "--check"]):
        command = [bench.python, "-m", "ruff", *arguments, "--no-cache", "src/service/routes.py"]
        bench.run(command, project, timeout=60)
    with bench.mypy("src/service/routes.py") as command:
        bench.run(command, project, timeout=300)
    with Service(project, bench.python, {"SERVICE_THREADS": "1"}) as service:
        service.wait_ready()
        if task == "none":
            rows = [list(each.values()) for each in (UNCLEAR, CLEAR)]
            assert post_json(service.port, "/best", rows).json() == 1
            return
        best = post_json(service.port, "/best", [CLEAR, UNCLEAR]).json()
    assert best["label"] == "setosa"
    assert best["probabilities"]["setosa"] > 0.9


def test_the_table_of_what_works_has_the_same_rows_for_each_framework(bench: Workbench) -> None:
    tables = []
    for framework in FRAMEWORKS:
        project = bench.project(Variant(framework, "onnxruntime", "uvicorn"))
        readme = (project / "README.md").read_text(encoding="utf-8")
        (table,) = re.findall(r"^\| you want \|.*?\n\n", readme, re.MULTILINE | re.DOTALL)
        tables.append(re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE))
    assert len(tables[0]) > 15
    assert tables == tables[:1] * len(FRAMEWORKS)


def test_the_make_targets_work_with_an_environment_of_ones_own(
    copy_of: Callable[[Variant], Path], bench: Workbench
) -> None:
    project = copy_of(ONE_PER_EXAMPLE[0])
    path = {"PATH": f"{Path(bench.python).parent}:/usr/bin:/bin"}
    for target in ("train", "lint", "test"):
        bench.run(["make", target, "RUN="], project, timeout=300, settings=path)
    listed = bench.run(["make", "help"], project, timeout=30)
    for target in ("run", "dev", "train", "test", "lint", "lock", "image"):
        assert re.search(rf"^{target} ", listed, re.MULTILINE)


def test_the_readme_names_files_that_are_there(
    copy_of: Callable[[Variant], Path],
) -> None:
    project = copy_of(ONE_PER_EXAMPLE[0])
    readme = (project / "README.md").read_text(encoding="utf-8")
    (layout,) = (block for block in code_blocks(readme, "") if block.startswith("src/service/"))
    for line in layout.splitlines():
        name = line.split()[0]
        assert (project / name).exists() or (project / "src/service" / name).exists(), name


@pytest.mark.parametrize("shown", COVERING_VARIANTS, ids=str)
def test_the_readme_lists_every_setting(shown: Variant, bench: Workbench) -> None:
    readme = (bench.project(shown) / "README.md").read_text(encoding="utf-8")
    listed = [line for line in readme.splitlines() if line.startswith("| `SERVICE_")]
    assert listed == [
        f"| `{variable}` | {f'`{default}`' if default else ''} | {description} |"
        for variable, default, description in settings_table()
    ]


def code_blocks(markdown: str, language: str) -> list[str]:
    """Read the blocks of a language; an indented block loses its indentation."""
    blocks = re.findall(r"^( *)```(\w*)\n(.*?)^ *```$", markdown, re.DOTALL | re.MULTILINE)
    return [
        re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)
        for indent, found, text in blocks
        if found == language
    ]
