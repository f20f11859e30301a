"""The manifest beside a model's artifact: which model it is, which files, which tensors."""

import hashlib
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from service.tensors import TensorSpec

FILE_NAME: Final = "manifest.json"

Identifier = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\z")]


class ArtifactError(Exception):
    """The artifact or its manifest cannot be used; the text says why and what would be right."""


class Tensor(BaseModel):
    """One tensor as the manifest spells it."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=256)
    datatype: str
    shape: list[int]

    def spec(self) -> TensorSpec:
        return TensorSpec(self.name, self.datatype, tuple(self.shape))


class Manifest(BaseModel):
    """What the service must know of a model before it loads it.

    ``file``: the artifact, a file or a folder, relative to the manifest.
    ``sha256``: the hex digest of each of the artifact's files by relative path.
    ``parameters``: what a runtime must know beyond the tensors, such as the types that skops may
    construct.
    """

    model_config = ConfigDict(extra="forbid")

    name: Identifier
    version: Identifier
    runtime: str
    file: str
    sha256: dict[str, str]
    inputs: list[Tensor] = Field(min_length=1)
    outputs: list[Tensor] = Field(min_length=1)
    parameters: dict[str, Any] = Field(default_factory=dict)

    def input_specs(self) -> tuple[TensorSpec, ...]:
        return tuple(tensor.spec() for tensor in self.inputs)

    def output_specs(self) -> tuple[TensorSpec, ...]:
        return tuple(tensor.spec() for tensor in self.outputs)

    def write(self, folder: Path) -> Path:
        """Write the manifest into a folder and return its path."""
        path = folder / FILE_NAME
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return path


def describe(
    artifact: Path,
    *,
    name: str,
    version: str,
    runtime: str,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    parameters: dict[str, Any] | None = None,
) -> Manifest:
    """Make the manifest of an artifact that lies where the manifest will."""
    return Manifest(
        name=name,
        version=version,
        runtime=runtime,
        file=artifact.name,
        sha256={
            path.relative_to(artifact.parent).as_posix(): _digest(path)
            for path in artifact_files(artifact)
        },
        inputs=[_tensor(spec) for spec in inputs],
        outputs=[_tensor(spec) for spec in outputs],
        parameters=parameters or {},
    )


def artifact_files(artifact: Path) -> list[Path]:
    """List the files of an artifact: a folder's, or its own with the weights stored beside it.

    Weights beside it are OpenVINO's ``model.bin`` of ``model.xml``, and ONNX's external data,
    ``model.onnx.data`` or ``model.onnx_data`` of ``model.onnx``.
    """
    if artifact.is_dir():
        return sorted(path for path in artifact.rglob("*") if path.is_file())
    beside = [artifact.with_name(artifact.name + end) for end in (".data", "_data")]
    if artifact.suffix == ".xml":
        beside = [artifact.with_suffix(".bin")]
    return [path for path in (artifact, *beside) if path.is_file()]


def read(folder: Path) -> Manifest:
    """Read the manifest of a model folder.

    Raises:
        ArtifactError: there is none, or it is not a manifest.
    """
    path = folder / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        raise ArtifactError(
            f"there is no {path}: make the example model with 'python train.py', or describe "
            "your own with 'python -m service manifest FILE --name … --version …'"
        ) from None
    try:
        manifest = Manifest.model_validate_json(text)
        manifest.input_specs()
        manifest.output_specs()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise ArtifactError(f"{path}: {where}: {first['msg']}") from None
    except ValueError as error:
        raise ArtifactError(f"{path}: {error}") from None
    return manifest


def locate(manifest: Manifest, folder: Path) -> Path:
    """Return the path of the artifact.

    Raises:
        ArtifactError: it is missing or outside the folder.
    """
    for name in (manifest.file, *manifest.sha256):
        if not _inside(name):
            raise ArtifactError(f"{folder / FILE_NAME}: '{name}' leaves the model folder")
    artifact = folder / manifest.file
    if not artifact.exists():
        raise ArtifactError(f"the artifact {artifact} is missing")
    return artifact


def verify(manifest: Manifest, folder: Path, runtime: str) -> Path:
    """Check that the artifact is the manifest's, file by file, and return its path.

    Raises:
        ArtifactError: it is of another runtime, missing, outside the folder, or altered.
    """
    if manifest.runtime != runtime:
        raise ArtifactError(
            f"the model in {folder} was made for the runtime '{manifest.runtime}', "
            f"this service has '{runtime}': make it again with 'python train.py'"
        )
    artifact = locate(manifest, folder)
    found = {path.relative_to(folder).as_posix(): path for path in artifact_files(artifact)}
    if surplus := sorted(found.keys() - manifest.sha256.keys()):
        raise ArtifactError(f"{folder / surplus[0]} is not in the manifest")
    for name, digest in manifest.sha256.items():
        if name not in found:
            raise ArtifactError(f"{folder / name} is missing")
        if _digest(found[name]) != digest.lower():
            raise ArtifactError(
                f"{found[name]} was altered: its sha256 is not the one in {FILE_NAME}"
            )
    return artifact


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tensor(spec: TensorSpec) -> Tensor:
    return Tensor(name=spec.name, datatype=spec.datatype, shape=list(spec.shape))
