"""The shortest way to a prediction: ``python -m inferplate_tools.demo DIRECTORY``."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from inferplate.errors import InferplateError
from inferplate.template.render import render
from inferplate.template.source import template_root
from inferplate_tools.client import post_json
from inferplate_tools.golden import Golden
from inferplate_tools.service import Service


def run_demo(project: Path) -> None:
    """Emit a service with default answers, train its example, start it, ask it and stop it.

    Raises:
        InferplateError, OSError: one of the steps failed.
    """
    _emit(project)
    _run(project, str(_tool("uv")), "sync", "--no-default-groups", "--group", "train")
    python = str(project.resolve() / ".venv/bin/python")
    _run(project, python, "train.py")
    golden = Golden.of(project)
    print("$ python -m service", flush=True)
    with Service(project, python, {"SERVICE_LOG_FORMAT": "console"}) as service:
        service.wait_ready()
        request = {"instances": golden.instances[:1]}
        print(f"$ curl http://127.0.0.1:{service.port}/predict --json '{json.dumps(request)}'")
        answer = post_json(service.port, "/predict", request)
        if answer.status != 200:
            raise service.failure(f"/predict answers {answer.status}: {answer.body!r}")
        print(json.dumps(answer.json(), indent=2))
        service.terminate()
        service.wait_exit()
    service.log.unlink()
    print(f"\nThat was {project}: a service with the default answers. Next:\n")
    _show_next(project)


def _show_next(project: Path) -> None:
    uv = "uv" if shutil.which("uv") else os.path.relpath(_tool("uv"), project)
    commands = {
        f"cd {project}": "",
        f"{uv} run python -m service": "serve it; http://127.0.0.1:8000/docs shows how to ask",
        f"{uv} run pytest": "run its tests",
        "less README.md": "serve a model of your own",
    }
    width = max(map(len, commands))
    for command, purpose in commands.items():
        print(f"  {command:<{width}}  # {purpose}" if purpose else f"  {command}")
    copier, template = _shown(_tool("copier")), template_root().resolve()
    print(f"\nTo choose the answers yourself: {copier} copy {template} my-service")


def _emit(project: Path) -> None:
    print(f"$ copier copy --defaults {_shown(template_root())} {project}", flush=True)
    if project.exists():
        if not (project / ".copier-answers.yml").exists():
            raise InferplateError(f"{project} exists and is not an emitted project")
        for path in project.iterdir():
            if path.name != ".venv":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    render(template_root(), project, {})


def _run(project: Path, *command: str) -> None:
    shown = [Path(part).name if Path(part).is_absolute() else part for part in command]
    print("$", shlex.join(shown), flush=True)
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    environment["UV_PYTHON"] = sys.executable
    done = subprocess.run(command, cwd=project, env=environment, check=False)  # noqa: S603
    if done.returncode:
        raise InferplateError(f"{shlex.join(shown)} exited with {done.returncode}")


def _tool(name: str) -> Path:
    return Path(sys.executable).with_name(name)


def _shown(path: Path) -> str:
    return os.path.relpath(path)


def main() -> None:
    """Run the demo in the folder that is named on the command line."""
    try:
        run_demo(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
    except (InferplateError, OSError) as error:
        sys.exit(f"demo: {error}")


if __name__ == "__main__":
    main()
