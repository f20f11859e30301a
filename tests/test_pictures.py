"""The pictures of the README: what they show is what the commands print today."""

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest

from inferplate.template.source import template_root

PICTURES = template_root() / "docs/pictures"
LARGEST = 200_000
MEND = "run 'make pictures' and commit what it draws"


def shown(picture: Path) -> list[str]:
    """Return the texts of a picture, without the digits in which processors may differ."""
    found = re.findall(r"<text[^>]*>(.*?)</text>", picture.read_text(encoding="utf-8"))
    text = "".join(html.unescape(each).replace("\xa0", " ") for each in found)
    return re.sub(r"\d+\.\d{4,}(e-\d+)?", "0.…", text).split("$")


@pytest.mark.slow
def test_the_terminal_shows_what_the_commands_print(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(PICTURES / "draw.py"), str(tmp_path)], check=True)
    assert shown(PICTURES / "terminal.svg") == shown(tmp_path / "terminal.svg"), MEND
    assert (tmp_path / "docs-page.png").read_bytes().startswith(b"\x89PNG")


def test_they_are_small_and_load_nothing() -> None:
    for name in ("terminal.svg", "docs-page.png"):
        assert 0 < (PICTURES / name).stat().st_size < LARGEST
    svg = (PICTURES / "terminal.svg").read_text(encoding="utf-8")
    assert not re.search(r"url\((?!#)|href=|@import|src=", svg)
    assert "setosa" in svg
