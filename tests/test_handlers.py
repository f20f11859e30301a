"""Services with /predict and with the protocol alone differ in what belongs to /predict."""

import ast
import difflib
import re
from collections import Counter
from pathlib import Path

import pytest

from inferplate.template.render import render
from inferplate.template.source import template_root
from inferplate.template.variants import WITHOUT_HANDLER, Variant
from inferplate_tools.workbench import Workbench

TEMPLATE = template_root() / "template"
HANDLERS = TEMPLATE / "handlers"
FRAMEWORKS = ("fastapi", "litestar", "ninja")
OF_PREDICT = re.compile(r"(?i)predict|\bInstance\b|\bJSONBody\b|\bpost\b")
"""What a line about /predict has in it: Litestar's application needs the last two for it alone."""
LEFT_OUT = re.compile(
    r"/predict|\bpredict\.py|service\.predict|PredictRe|Predictor|predict_endpoint|write-predict"
    r"|PREDICT_ENDPOINT|\bInstance\b"
)


def pairs(*names: str) -> list[tuple[Path, Path]]:
    """Return the version with /predict and the one without of files of each framework."""
    folders = [(TEMPLATE / each, HANDLERS / "none" / each) for each in FRAMEWORKS]
    return [
        (typed / "src/service" / name, without / "src/service" / name)
        for typed, without in folders
        for name in names
    ]


def of_both(path: str) -> tuple[Path, Path]:
    return HANDLERS / "predict" / path, HANDLERS / "none" / path


def unlike(typed: str, without: str) -> list[str]:
    """Return the lines that differ, and not for /predict: it may only take words away."""
    found = []
    old, new = typed.splitlines(), without.splitlines()
    for kind, *(a, b, c, d) in difflib.SequenceMatcher(None, old, new, False).get_opcodes():
        if kind == "equal":
            continue
        left, right = "\n".join(old[a:b]), "\n".join(new[c:d])
        rest = iter(re.findall(r"\w+", left))
        only_less = all(word in rest for word in re.findall(r"\w+", right))
        if not (only_less and OF_PREDICT.search(left)):
            found.append(f"- {left}\n+ {right}")
    return found


@pytest.mark.parametrize(
    ("typed", "without"),
    [*pairs("app.py", "dependencies.py"), of_both("src/service/scaffold/arguments.py")],
    ids=lambda path: f"{path.parts[-4]}-{path.name}",
)
def test_without_predict_a_file_has_less_and_nothing_else(typed: Path, without: Path) -> None:
    assert not unlike(typed.read_text(encoding="utf-8"), without.read_text(encoding="utf-8"))


def test_a_line_that_only_one_version_has_is_found() -> None:
    app = "import predict\nroute = 1\n"
    assert not unlike(app, "route = 1\n")
    assert unlike(app + "fixed = True\n", "route = 1\n")
    assert unlike(app, "route = 1\nfixed = True\n")
    assert unlike(app, "route = 2\n")


def code(path: Path, *left_out: str) -> list[str]:
    """Return the statements of a module, but its docstring, imports and these functions."""
    _, *statements = ast.parse(path.read_text(encoding="utf-8")).body
    return [
        ast.dump(each)
        for each in statements
        if not isinstance(each, ast.Import | ast.ImportFrom)
        and getattr(each, "name", None) not in left_out
    ]


@pytest.mark.parametrize(("typed", "without"), pairs("routes.py"))
def test_the_routes_begin_alike(typed: Path, without: Path) -> None:
    assert code(typed) == code(without)


def test_the_service_is_put_together_alike() -> None:
    typed, without = of_both("src/service/main.py")
    assert code(typed, "create_app") == code(without, "create_app")


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("runtime", ["onnxruntime", "transformers"])
def test_a_service_without_predict_does_not_know_of_it(
    framework: str, runtime: str, bench: Workbench, tmp_path: Path
) -> None:
    # One of its own: in the bench's, other processes put models and run tests.
    variant = Variant(framework, runtime, "uvicorn", WITHOUT_HANDLER)
    project = render(bench.template(), tmp_path / variant.name, variant.answers())
    for path in project.rglob("*"):
        # Prometheus and Grafana match any route that predicts.
        if path.is_file() and "deploy" not in path.parts:
            text = path.read_text(encoding="utf-8")
            assert not [line for line in text.splitlines() if LEFT_OUT.search(line)], path


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_only_predict_uses_is_not_emitted(framework: str, bench: Workbench) -> None:
    typed, without = [
        unused(bench.project(Variant(framework, "onnxruntime", "uvicorn", task)))
        for task in ("", WITHOUT_HANDLER)
    ]
    assert without - {"service.dependencies"} <= typed  # which is for the owner's routes


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_only_predict_calls_stands_in_its_files(framework: str, bench: Workbench) -> None:
    typed, without = [
        uncalled(bench.project(Variant(framework, "onnxruntime", "uvicorn", task)))
        for task in ("", WITHOUT_HANDLER)
    ]
    of_one_framework = {"field_path"}  # Litestar's own errors need it for /predict alone
    assert without - of_one_framework <= typed


def unused(project: Path) -> set[str]:
    """Return the modules of a service that no other of its modules imports."""
    source = project / "src"
    modules = {
        ".".join(path.relative_to(source).with_suffix("").parts): path
        for path in source.rglob("*.py")
        if path.name != "__init__.py"
    }
    imported = set()
    for path in modules.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported |= {
                    node.module or "",
                    *(f"{node.module}.{name.name}" for name in node.names),
                }
    return modules.keys() - imported


def uncalled(project: Path) -> set[str]:
    """Return the functions, methods and classes of a service that none of its code mentions."""
    texts = [path.read_text(encoding="utf-8") for path in (project / "src").rglob("*.py")]
    words = Counter(word for text in texts for word in re.findall(r"\w+", text))
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    defined = {
        node.name
        for text in texts
        for node in ast.walk(ast.parse(text))
        if isinstance(node, definitions)
    }
    return {name for name in defined if words[name] == 1}
