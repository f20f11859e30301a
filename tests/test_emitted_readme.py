"""What the emitted README and Makefile promise, done as they say."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import COVERING_VARIANTS

from inferplate.matrix import Variant
from inferplate.running import Service
from inferplate.workbench import Workbench
from service.ops.settings import settings_table

pytestmark = pytest.mark.slow

ONE_PER_EXAMPLE = [
    variant for variant in COVERING_VARIANTS if variant.runtime in ("onnxruntime", "transformers")
]


@pytest.mark.parametrize("shown", ONE_PER_EXAMPLE, ids=str)
def test_the_curl_commands_answer_as_shown(
    shown: Variant, copy_of: Callable[[Variant], Path], bench: Workbench
) -> None:
    project = copy_of(shown)
    readme = (project / "README.md").read_text(encoding="utf-8")
    commands = [block for block in code_blocks(readme, "sh") if block.startswith("curl ")]
    (answer_shown,) = (block for block in code_blocks(readme, "") if block.startswith("{"))
    with Service(project, bench.python, {"SERVICE_THREADS": "1"}) as service:
        service.wait_ready()
        local = [command.replace(":8000", f":{service.port}") for command in commands]
        answers = [
            bench.run(["bash", "-c", f"{command.strip()} --silent --fail"], project, timeout=30)
            for command in local
        ]
    assert re.fullmatch(re.escape(answer_shown.strip()).replace("…", r"[\d.e-]+"), answers[0])
    assert json.loads(answers[1])["outputs"]


def test_the_make_targets_work_with_an_environment_of_ones_own(
    copy_of: Callable[[Variant], Path], bench: Workbench
) -> None:
    project = copy_of(ONE_PER_EXAMPLE[0])
    path = {"PATH": f"{Path(bench.python).parent}:/usr/bin:/bin"}
    for target in ("train", "lint", "test"):
        bench.run(["make", target, "RUN="], project, timeout=300, settings=path)
    listed = bench.run(["make", "help"], project, timeout=30)
    for target in ("run", "train", "test", "lint", "lock", "image"):
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
