"""Count the files and lines that each of the ten models takes by each tool, and write the table.

    .venv/bin/python benchmarks/ten_models/count.py

Writes between the marks in docs/ten-models.md. A line of Python counts if there is more on it than
a comment or a docstring; a line of any other file, if it is not blank.
"""

import ast
import io
import re
import tokenize
import tomllib
from pathlib import Path
from typing import Any, Final

TEN: Final = Path(__file__).parent
PAGE: Final = TEN.parents[1] / "docs/ten-models.md"
MODELS: Final[dict[str, Any]] = tomllib.loads((TEN / "models.toml").read_text(encoding="utf-8"))
TITLES: Final = {
    "inferplate": "inferplate",
    "bentoml": "BentoML",
    "litserve": "LitServe",
    "mlserver": "MLServer",
    "fastapi": "plain FastAPI",
}
START: Final = "<!-- written by benchmarks/ten_models/count.py -->\n"
END: Final = "<!-- to here -->\n"

_SILENT: Final = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    tokenize.ENDMARKER,
}
_WITH_DOCSTRING: Final = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_table(page), encoding="utf-8")


def with_table(page: str) -> str:
    """Return the page with the table of today's files."""
    between = re.compile(f"{re.escape(START)}.*{re.escape(END)}", re.DOTALL)
    return between.sub(lambda _: START + table() + END, page)


def table() -> str:
    """Return a row for each model, and their sums; files and lines in each cell."""
    head = ["model", *TITLES.values()]
    lines = [head, ["---", *["---:"] * len(TITLES)]]
    sums = dict.fromkeys(TITLES, (0, 0))
    for name, model in MODELS.items():
        row = [model["title"]]
        for tool in TITLES:
            files, count = counted(name, tool)
            sums[tool] = (sums[tool][0] + files, sums[tool][1] + count)
            row.append(f"{files} / {count}")
        lines.append(row)
    lines.append(["all ten", *(f"{files} / {count}" for files, count in sums.values())])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def counted(model: str, tool: str) -> tuple[int, int]:
    """Return how many files, and how many lines, a user of the tool writes for a model."""
    paths = [path for path in (TEN / model / tool).glob("*") if path.is_file()]
    return len(paths), sum(map(lines_of, paths))


def lines_of(path: Path) -> int:
    """Return how many lines of a file count."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return sum(bool(line.strip()) for line in text.splitlines())
    counted: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _SILENT:
            counted.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node) is not None:
            said = node.body[0]
            counted.difference_update(range(said.lineno, (said.end_lineno or said.lineno) + 1))
    return len(counted)


if __name__ == "__main__":
    main()
