"""Other ways to serve a model: folders under ``benchmarks/peers/``."""

import json
import os
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inferplate.bench.contestants import Contestant, Exchange, matches, numbers_in
from inferplate.bench.environments import environment, packages
from inferplate.bench.load import Request
from inferplate.bench.models import Model
from inferplate.errors import InferplateError, unknown
from inferplate.source import benchmarks_root
from inferplate.wire import Response
from inferplate.workbench import project_environment


@dataclass(frozen=True)
class Peer:
    """Another way to serve a model, as ``benchmarks/peers/<name>/peer.toml`` describes it.

    ``body``: JSON with ``$instances`` for the list of instances, and ``$shape`` for [rows,
    features] where the protocol wants it. ``answer``: the dotted path of the predictions.
    """

    name: str
    title: str
    folder: Path
    requirements: tuple[str, ...]
    python: str | None
    command: tuple[str, ...]
    environment: Mapping[str, str]
    ready: str
    path: str
    content_type: str
    body: str
    answer: str


def peer_names(root: Path | None = None) -> list[str]:
    """List the peers that there are."""
    folder = root or benchmarks_root() / "peers"
    return sorted(path.parent.name for path in folder.glob("*/peer.toml"))


def read_peers(name: str, root: Path | None = None) -> list[Peer]:
    """Read a peer: as it comes, and each of its variants, such as with its own batching.

    Raises:
        InferplateError: the peer does not exist, or its description lacks something.
    """
    folder = root or benchmarks_root() / "peers"
    known = peer_names(root)
    if name not in known:
        raise unknown("peer", name, known)
    path = folder / name / "peer.toml"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        plain = _peer(name, document["title"], path.parent, document)
        variants = [
            _variant(plain, variant, document, changes)
            for variant, changes in document.get("variants", {}).items()
        ]
        return [plain, *variants]
    except KeyError as error:
        raise InferplateError(f"{path} lacks {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise InferplateError(f"{path}: {error}") from None


def prepare_peer(peer: Peer, model: Model, folder: Path, python: str | None) -> Contestant:
    """Copy a peer's folder, and install what it needs, unless an interpreter is given.

    ``model``: one whose instances are flat lists of floats.

    Raises:
        CheckFailed: it cannot be installed.
    """
    shutil.copytree(peer.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    needed = peer.requirements
    interpreter = python or environment(
        peer.folder.name, needed, needed, folder=folder, python=peer.python
    )
    places = {"{model}": str(model.path), "{python}": interpreter}

    def exchange(rows: int) -> Exchange:
        batch = model.batch(rows)[model.inputs[0].name]
        shaped = peer.body.replace("$shape", json.dumps(list(batch.shape)))
        body = shaped.replace("$instances", json.dumps(batch.tolist())).encode()
        expected = [array.ravel().tolist() for array in model.answers(rows).values()]

        def is_right(answer: Response) -> bool:
            found: Any = answer.json()
            for part in filter(None, peer.answer.split(".")):
                found = found[int(part)] if isinstance(found, list) else found[part]
            return matches(list(numbers_in(found)), expected)

        return Exchange(Request(peer.path, body, {"Content-Type": peer.content_type}), is_right)

    return Contestant(
        name=peer.title,
        command=[_filled(part, places) for part in peer.command],
        folder=folder,
        environment={
            **_bare_environment(interpreter),
            **{name: _filled(value, places) for name, value in peer.environment.items()},
        },
        ready=peer.ready,
        wires={"json": exchange},
        python=interpreter,
        is_peer=True,
        versions=packages(interpreter),
    )


def _peer(name: str, title: str, folder: Path, document: Mapping[str, Any]) -> Peer:
    requirements = document["requirements"] or ()
    return Peer(
        name=name,
        title=title,
        folder=folder,
        requirements=tuple(requirements),
        python=document.get("python") or None,
        command=tuple(document["command"]),
        environment={key: str(value) for key, value in document.get("environment", {}).items()},
        ready=document["ready"],
        path=document["path"],
        content_type=document["content_type"],
        body=document["body"],
        answer=document["answer"],
    )


def _variant(
    plain: Peer, variant: str, document: Mapping[str, Any], changes: Mapping[str, Any]
) -> Peer:
    title = changes.get("title") or f"{plain.title}, {variant.replace('-', ' ')}"
    variables = {**document.get("environment", {}), **changes.get("environment", {})}
    changed = {**document, **changes, "environment": variables}
    return _peer(f"{plain.name}-{variant}", title, plain.folder, changed)


def _bare_environment(interpreter: str) -> dict[str, str]:
    kept = project_environment()
    del kept["PYTHONPATH"]
    programs = os.pathsep.join([str(Path(interpreter).parent), kept.get("PATH", "")])
    return {**kept, "PATH": programs, "OMP_NUM_THREADS": "1"}


def _filled(text: str, places: Mapping[str, str]) -> str:
    for place, value in places.items():
        text = text.replace(place, value)
    return text
