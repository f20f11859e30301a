"""Draws the pictures of the README anew: python docs/pictures/draw.py [FOLDER].

The terminal shows commands that are run here, in the environment of the tests, and what they print.
Two things are exchanged in the text: the temporary folder, and the port.
"""

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from inferplate.template.render import snapshot
from inferplate.template.source import template_root
from inferplate_tools.service import Service
from inferplate_tools.workbench import project_environment

PROGRAMS: Final = Path(sys.executable).parent
PROJECT: Final = "iris"
COLUMNS: Final = 96
PORT: Final = 8000
NEW: Final = f"inferplate new {PROJECT} --defaults"
TRAIN: Final = "uv run train.py"
SERVE: Final = "uv run python -m service &"
ASK: Final = (
    f"curl -s http://127.0.0.1:{PORT}/predict --json '"
    '{"instances": [{"sepal_length": 5.1, "sepal_width": 3.5,'
    ' "petal_length": 1.4, "petal_width": 0.2}]}\''
)
WINDOW: Final = (1100, 1000)
FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def draw(destination: Path) -> None:
    """Draw the terminal, and the docs page if there is a Chromium, into a folder."""
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary).resolve()
        project = home / PROJECT
        site = installed(home / "site")
        shown = [(f"~ $ {NEW}", run(NEW, home, {"PYTHONPATH": str(site)}))]
        shown.append((f"~ $ cd {PROJECT}", ""))
        with_tests = {
            "UV_NO_SYNC": "1",
            "UV_PROJECT_ENVIRONMENT": sys.prefix,
            "PYTHONPATH": "src",
        }
        shown.append((f"~/{PROJECT} $ {TRAIN}", run(TRAIN, project, with_tests)))
        with Service(project, sys.executable, {}) as service:
            service.wait_ready()
            ask = ASK.replace(f":{PORT}/", f":{service.port}/")
            shown.append((f"~/{PROJECT} $ {SERVE}", ""))
            shown.append((f"~/{PROJECT} $ {ASK}", run(ask, project, {})))
            if shutil.which("chromium"):
                draw_docs_page(service.port, destination / "docs-page.png", home / "profile")
        text = "\n".join(f"{command}\n{printed}".rstrip() for command, printed in shown)
        save(text.replace(str(home), "~"), destination / "terminal.svg")


def installed(site: Path) -> Path:
    """Put the command line into a folder as the wheel has it, with the template inside."""
    package = site / "inferplate"
    shutil.copytree(template_root() / "src/inferplate", package)
    snapshot(template_root(), package / "_template")
    return site


def run(command: str, folder: Path, settings: Mapping[str, str]) -> str:
    """Run a command line and return what it printed."""
    environment = {
        **project_environment(settings),
        "COLUMNS": str(COLUMNS),
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
    }
    line = f"{sys.executable} -m {command}" if command == NEW else command
    done = subprocess.run(  # noqa: S602 - the commands are ours
        line, shell=True, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip("\n")


def save(text: str, path: Path) -> None:
    """Draw a text as a terminal shows it."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), highlight=False)
    for line in text.splitlines():
        prompt, dollar, command = line.partition(" $ ")
        if dollar and prompt.startswith("~"):
            console.print(Text.assemble((f"{prompt} $ ", "bold green"), (command, "bold")))
        else:
            console.print(Text(line))
    svg = console.export_svg(title=PROJECT, theme=MONOKAI, unique_id="terminal")
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # fonts from elsewhere
    svg = re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE).strip()
    path.write_text(f"{svg}\n", encoding="utf-8")


def draw_docs_page(port: int, path: Path, profile: Path) -> None:
    """Take a picture of the docs page of a service."""
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, f"--user-data-dir={profile}", "--window-size={},{}".format(*WINDOW)):
        options.add_argument(flag)
    browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        browser.get(f"http://127.0.0.1:{port}/docs")
        found = WebDriverWait(browser, 30).until(
            lambda page: page.find_elements(By.CSS_SELECTOR, "[data-operation]")
        )
        if found[0].get_attribute("open") is None:
            found[0].find_element(By.TAG_NAME, "summary").click()
        browser.save_screenshot(str(path))
    finally:
        browser.quit()


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
