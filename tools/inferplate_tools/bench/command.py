"""``inferplate-bench``: its options, and what is shown while it runs."""

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from inferplate.errors import InferplateError, unknown
from inferplate.template.questions import axis_choices, read_questions
from inferplate.template.source import template_root
from inferplate.template.variants import Variant, select, variants

if TYPE_CHECKING:
    from inferplate_tools.bench.load import Open
    from inferplate_tools.bench.models import Model
    from inferplate_tools.bench.run import Plan
    from inferplate_tools.bench.stages import Share, Stage

_LIBRARIES: Final = ("matplotlib", "numpy", "onnx", "onnxruntime", "platformdirs", "psutil")
_SUITES: Final = ("reference",)


app = typer.Typer(
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


@app.command()
def bench(
    framework: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Measure this web framework; repeatable. [default: all]"),
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Measure this runtime; repeatable. [default: onnxruntime]"
        ),
    ] = None,
    server: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Measure this server; repeatable. [default: uvicorn]"),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Also measure this, with one worker, on JSON: naive, bare, bare-inline, "
            "bentoml, kserve, litserve, mlserver, mosec or ray; each also in its variants, such as "
            "with its own batching; repeatable.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="tabular (boosted trees, 10 µs a row), mlp (50 µs), embed (a transformer, 6 ms), "
            "the path of your .onnx file, or example: the model that each runtime trains. "
            "[default: tabular]; repeatable.",
        ),
    ] = None,
    wire: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WIRE",
            help="json or binary: tensors; typed: /predict. [default: json]; repeatable.",
        ),
    ] = None,
    rows: Annotated[
        list[int] | None,
        typer.Option(metavar="N", min=1, help="Rows in a request; repeatable. [default: 1]"),
    ] = None,
    connections: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Closed loop with N connections; repeatable. [default: 16]"),
    ] = None,
    open_loop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RATE",
            help="Open loop with so many requests per second, or, as in 60%, a share of what "
            "the model alone can answer; repeatable.",
        ),
    ] = None,
    workers: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Worker processes, each with its own CPU; repeatable. [default: 1]",
        ),
    ] = None,
    rounds: Annotated[
        int, typer.Option(metavar="N", min=1, help="Rounds; each makes every measurement once.")
    ] = 3,
    seconds: Annotated[
        int, typer.Option(metavar="N", min=1, help="Seconds for each measurement.")
    ] = 2,
    suite: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(_SUITES),
            help="Make the measurements of docs/benchmarks.md, instead of --model to --workers.",
        ),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Run services and peers with this interpreter, which needs all their packages, "
            "instead of installing each in its own environment.",
        ),
    ] = None,
    python_version: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VERSION",
            help="Install each service on this Python, such as 3.13, or the path of an "
            "interpreter; repeatable. [default: this one]",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Write results.json, README.md and plots here.")
    ] = Path("benchmark-results"),
) -> None:
    """Measure services and other model servers on this machine.

    The command emits the services, pins servers and load generators to their own CPUs, interleaves
    the rounds and checks the answers. Compare the CPU time per request; ignore differences below
    20 %. You need wrk, h2load and the extra 'bench'. The exit code is 1 if a measurement failed.
    """
    _require_extra()
    from inferplate_tools.bench.contestants import WIRES
    from inferplate_tools.bench.environments import require_uv
    from inferplate_tools.bench.load import Closed, require
    from inferplate_tools.bench.models import Model
    from inferplate_tools.bench.peers import read_peers
    from inferplate_tools.bench.results import claim
    from inferplate_tools.bench.run import Plan
    from inferplate_tools.bench.show import run_and_show
    from inferplate_tools.bench.stages import BASELINES, chosen, reference

    if suite is not None and suite not in _SUITES:
        raise unknown("suite", suite, _SUITES)
    given = {"model": model, "wire": wire, "rows": rows, "connections": connections}
    given |= {"open-loop": open_loop, "workers": workers}
    if suite and (clash := next((name for name, value in given.items() if value), None)):
        raise InferplateError(f"--suite sets --{clash} itself: give one of the two")
    if python and python_version:
        raise InferplateError("--python runs everything on one Python: leave out --python-version")
    for name in wire or ():
        if name not in WIRES:
            raise unknown("wire", name, WIRES)
    own: dict[str, Model] = {}
    if suite:
        peer, stages = [*BASELINES, *(peer or [])], reference()
    else:
        names, own = _models(model or ["tabular"])
        loads = [*(Closed(count) for count in connections or ()), *map(_rate, open_loop or ())]
        loads = loads or [Closed(16)]
        stages = chosen(names, wire or ["json"], rows or [1], loads, workers or [1])
    plan = Plan(
        variants=_variants(framework, runtime, server),
        peers=[found for name in dict.fromkeys(peer or ()) for found in read_peers(name)],
        stages=stages,
        rounds=rounds,
        seconds=seconds,
        shared_python=_interpreter(python) if python else None,
        pythons=list(dict.fromkeys(python_version or ())),
    )
    _check(plan, own)
    require(["wrk", "h2load"])
    require_uv()
    claim(output)
    results = run_and_show(plan, own, output)
    raise typer.Exit(1 if results.failures else 0)


def _require_extra() -> None:
    missing = [name for name in _LIBRARIES if not importlib.util.find_spec(name)]
    if missing:
        raise InferplateError(
            f"{missing[0]} is not installed: make bench installs it, or pip install 'tools[bench]'"
        )


def _interpreter(given: str) -> str:
    """Find an interpreter from here: services run elsewhere."""
    found = shutil.which(given)
    if not found:
        raise InferplateError(f"--python {given!r} is not an interpreter: give the path of one")
    return str(Path(found).absolute())


def _variants(
    framework: list[str] | None, runtime: list[str] | None, server: list[str] | None
) -> list[Variant]:
    questions = read_questions(template_root())
    wanted = {
        "framework": framework or [],
        "runtime": runtime or ["onnxruntime"],
        "server": server or ["uvicorn"],
    }
    found = [variant for variant in variants(questions) if variant.has_first_task]
    return select(found, wanted, axis_choices(questions))


def _models(given: Sequence[str]) -> "tuple[list[str], dict[str, Model]]":
    """Find the names of models, and load those that are files."""
    from inferplate_tools.bench.models import REFERENCE, Model, load
    from inferplate_tools.bench.services import EXAMPLE

    names: list[str] = []
    own: dict[str, Model] = {}
    for name in dict.fromkeys(given):
        if name in (*REFERENCE, EXAMPLE):
            names.append(name)
        elif name.endswith(".onnx"):
            loaded = load(Path(name).resolve())
            if loaded.name in (*REFERENCE, EXAMPLE, *own):
                raise InferplateError(f"two models are called {loaded.name}: rename {name}")
            own[loaded.name] = loaded
            names.append(loaded.name)
        else:
            raise unknown("model", name, [*REFERENCE, EXAMPLE, "the path of an .onnx file"])
    return names, own


def _rate(text: str) -> "Open | Share":
    from inferplate_tools.bench.load import Open
    from inferplate_tools.bench.stages import Share

    number = text.removesuffix("%")
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise InferplateError(
            f"--open-loop {text!r} is neither a rate, such as 500, nor a share, such as 60%"
        )
    return Open(value) if number == text else Share(value / 100)


def _check(plan: "Plan", own: "dict[str, Model]") -> None:
    """Refuse what cannot be measured before anything is started.

    Raises:
        InferplateError: something of the plan does not fit together.
    """
    from inferplate_tools.bench.machine import pinning
    from inferplate_tools.bench.services import EXAMPLE, ONNX_RUNTIMES

    for stage in plan.stages:
        pinning(stage.workers)
        if stage.model == EXAMPLE:
            if plan.peers:
                raise InferplateError("peers cannot serve --model example: choose another model")
            continue
        for variant in plan.variants:
            if variant.runtime not in ONNX_RUNTIMES:
                raise InferplateError(
                    f"{variant.runtime} cannot serve the ONNX model {stage.model}: "
                    "choose --model example"
                )
        if stage.model in own:
            _check_model(own[stage.model], stage, with_peers=bool(plan.peers))


def _check_model(model: "Model", stage: "Stage", *, with_peers: bool) -> None:
    fixed = model.fixed_rows
    if fixed and any(scenario.rows != fixed for scenario in stage.scenarios):
        raise InferplateError(f"{model.name} takes {fixed} rows: choose --rows {fixed}")
    if not model.is_typed and any(scenario.wire == "typed" for scenario in stage.scenarios):
        raise InferplateError(f"no predict.py describes instances of {model.name}: leave out typed")
    if with_peers and not model.is_vector:
        raise InferplateError(f"peers take flat lists of floats: {model.name} takes something else")
    model.answers(fixed or 1)
