"""The manifest beside a model's artifact: its name and version, its files and its tensors."""

import codecs
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from service.core.onnx_data import external_locations
from service.core.tensors import Signature, Tensors, TensorSpec

FILE_NAME: Final = "manifest.json"
DEFAULT_BATCH_TOLERANCE: Final = 1e-3
_GIT_LFS: Final = b"version https://git-lfs.github.com/"

Identifier = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\z")]

Batch = Literal["auto", "always", "never"]


class ArtifactError(Exception):
    """The artifact or its manifest cannot be used. The text says why, and what would be right."""


class ModelInfo(BaseModel):
    """The model that made a prediction."""

    name: str = Field(description="Name of the model")
    version: str = Field(description="Version of the model")


class Tensor(BaseModel):
    """One tensor as the manifest spells it. ``artifact_name``: its name in the artifact, if other.

    The service calls it by ``name`` only.
    """

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=256)
    datatype: str
    shape: list[int]
    artifact_name: str | None = Field(default=None, min_length=1)

    @property
    def name_in_artifact(self) -> str:
        return self.artifact_name or self.name

    @property
    def is_vector(self) -> bool:
        """Whether it has a vector of one size in each row."""
        return self.datatype.startswith("FP") and self.shape[:1] == [-1] and len(self.shape) == 2

    def as_in_artifact(self) -> "Tensor":
        return Tensor(name=self.name_in_artifact, datatype=self.datatype, shape=self.shape)

    def spec(self) -> TensorSpec:
        return TensorSpec(self.name, self.datatype, tuple(self.shape))


class Manifest(BaseModel):
    """What the service must know about a model before it loads it.

    ``file``: the artifact, a file or a folder, relative to the manifest.
    ``sha256``: the hex digest of each file of the artifact, by relative path.
    ``batch``: whether requests may share a batch along the first axis: ``auto`` if a trial at each
    start proves that they may, ``always`` to refuse to start if it shows otherwise, ``never`` for
    one request at a time.
    ``batch_tolerance``: how far an answer may differ in a batch, as a part of the output's range.
    Quantised models may need more than the default.
    ``pad_batches``: whether a batch is filled up to the next size that warm-up runs, for runtimes
    that compile the model for each size.
    ``task``: ``embedding`` if the model makes a vector of each text, so that the service answers
    /v1/embeddings too. If its input is not the text itself, the service makes it of the text.
    ``parameters``: further options of the runtime, such as the types that skops may construct.
    """

    model_config = ConfigDict(extra="forbid")

    name: Identifier
    version: Identifier
    runtime: str
    file: str
    sha256: dict[str, str]
    inputs: list[Tensor] = Field(min_length=1)
    outputs: list[Tensor] = Field(min_length=1)
    batch: Batch = "auto"
    batch_tolerance: float = Field(default=DEFAULT_BATCH_TOLERANCE, ge=0, le=1)
    pad_batches: bool = False
    task: Literal["embedding"] | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)

    @field_validator("inputs", "outputs")
    @classmethod
    def _names_must_differ(cls, tensors: list[Tensor]) -> list[Tensor]:
        for names in (
            [tensor.name for tensor in tensors],
            [tensor.name_in_artifact for tensor in tensors],
        ):
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"two tensors have the name '{name}'")
        return tensors

    @field_validator("pad_batches")
    @classmethod
    def _batches_must_be_possible(cls, pad_batches: bool, info: ValidationInfo) -> bool:
        if pad_batches and info.data.get("batch") == "never":
            raise ValueError("there are no batches to pad, 'batch' is 'never'")
        return pad_batches

    @field_validator("task")
    @classmethod
    def _tensors_must_fit(
        cls, task: Literal["embedding"] | None, info: ValidationInfo
    ) -> Literal["embedding"] | None:
        outputs = info.data.get("outputs", [])
        if task and not any(each.is_vector for each in outputs):
            raise ValueError("an embedding needs an output of FP16, FP32 or FP64 [-1, SIZE]")
        return task

    @property
    def takes_texts(self) -> bool:
        """Whether the model's one input is a text in each row."""
        return [(each.datatype, each.shape) for each in self.inputs] == [("BYTES", [-1])]

    @cached_property
    def info(self) -> ModelInfo:
        """Name and version."""
        return ModelInfo(name=self.name, version=self.version)

    def input_specs(self) -> tuple[TensorSpec, ...]:
        return tuple(tensor.spec() for tensor in self.inputs)

    def output_specs(self) -> tuple[TensorSpec, ...]:
        return tuple(tensor.spec() for tensor in self.outputs)

    def with_names_of_artifact(self) -> "Manifest":
        """Return the manifest with the names in the artifact; itself, if they are no others."""
        if all(tensor.artifact_name is None for tensor in (*self.inputs, *self.outputs)):
            return self
        return self.model_copy(
            update={
                "inputs": [tensor.as_in_artifact() for tensor in self.inputs],
                "outputs": [tensor.as_in_artifact() for tensor in self.outputs],
            }
        )

    def write(self, folder: Path) -> Path:
        """Write the manifest into a folder and return its path."""
        path = folder / FILE_NAME
        text = self.model_dump_json(indent=2, exclude_none=True)
        path.write_text(text + "\n", encoding="utf-8")
        return path


def describe(
    artifact: Path,
    *,
    name: str,
    version: str,
    runtime: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    batch: Batch = "auto",
    pad_batches: bool = False,
    task: Literal["embedding"] | None = None,
    parameters: dict[str, Any] | None = None,
    renamed: Mapping[str, str] | None = None,
) -> Manifest:
    """Return the manifest of an artifact. It belongs in the artifact's folder.

    ``inputs`` and ``outputs``: by their names in the artifact. ``renamed``: names for the service,
    by those in the artifact.
    """
    names = renamed or {}
    return Manifest(
        name=name,
        version=version,
        runtime=runtime,
        file=artifact.name,
        sha256={
            path.relative_to(artifact.parent).as_posix(): _digest(path)
            for path in artifact_files(artifact)
        },
        inputs=[_tensor(spec, names) for spec in inputs],
        outputs=[_tensor(spec, names) for spec in outputs],
        batch=batch,
        pad_batches=pad_batches,
        task=task,
        parameters=parameters or {},
    )


def artifact_files(artifact: Path) -> list[Path]:
    """List the files of an artifact: those of a folder, or a file and the weights beside it.

    Weights beside a file are OpenVINO's ``model.bin`` of ``model.xml``, and the files that an ONNX
    model names as its external data.

    Raises:
        ArtifactError: what `external_data` raises.
    """
    if artifact.is_dir():
        return sorted(_files_in(artifact))
    beside = sorted(set(external_data(artifact).values()))
    weights = artifact.with_suffix(".bin")
    if artifact.suffix == ".xml" and weights.is_file():
        beside.append(weights)
    return [artifact, *beside]


def external_data(artifact: Path) -> dict[str, Path]:
    """Return the files with the external data of an ONNX model, by the path that it gives.

    Raises:
        ArtifactError: a file is missing, or outside the model's folder.
    """
    files = {}
    for location in external_locations(artifact):
        if not _inside(location):
            raise ArtifactError(
                f"{artifact} keeps weights in '{location}', which is outside its folder"
            )
        files[location] = artifact.parent / location
        if not files[location].is_file():
            raise ArtifactError(
                f"{files[location]} is missing: {artifact.name} keeps weights in it"
            )
    return files


def read(folder: Path) -> Manifest:
    """Read the manifest of a model folder.

    Raises:
        ArtifactError: the folder has none, or it is not valid.
    """
    path = folder / FILE_NAME
    if not path.exists():
        raise ArtifactError(
            f"{path} is missing: make the example model with 'python train.py', or describe "
            "your own with 'python -m service manifest FILE --name … --version …'"
        )
    check_file(path)
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ArtifactError(f"{path} is in UTF-16: save it as UTF-8")
    try:
        manifest = Manifest.model_validate_json(content.removeprefix(codecs.BOM_UTF8))
        manifest.input_specs()
        manifest.output_specs()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise ArtifactError(f"{path}: {where}: {first['msg']}") from None
    except ValueError as error:
        raise ArtifactError(f"{path}: {error}") from None
    return manifest


def check_file(path: Path) -> None:
    """Check that a file can be read, and that it is not the pointer of Git LFS to another.

    Raises:
        ArtifactError: it cannot, is a pointer, or is a pipe, a socket, a device or a folder.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} is not a file")
    try:
        with path.open("rb") as file:
            start = file.read(len(_GIT_LFS))
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from None
    if start == _GIT_LFS:
        raise ArtifactError(f"{path} is a pointer of Git LFS: get the file with 'git lfs pull'")


def locate(manifest: Manifest, folder: Path) -> Path:
    """Return the path of the artifact.

    Raises:
        ArtifactError: it is missing, or outside the folder.
    """
    for name in (manifest.file, *manifest.sha256):
        if not _inside(name):
            raise ArtifactError(f"{folder / FILE_NAME}: '{name}' leaves the model folder")
    artifact = folder / manifest.file
    if not artifact.exists():
        raise ArtifactError(f"the artifact {artifact} is missing")
    return artifact


def verify(manifest: Manifest, folder: Path, runtime: str) -> Path:
    """Check the artifact file by file against the manifest, and return its path.

    Raises:
        ArtifactError: it is for another runtime, missing, outside the folder, or altered.
    """
    if manifest.runtime != runtime:
        raise ArtifactError(
            f"the model in {folder} was made for the runtime '{manifest.runtime}', "
            f"this service has '{runtime}': make it again with 'python train.py'"
        )
    artifact = locate(manifest, folder)
    if not artifact.is_dir():
        check_file(artifact)
    found = {path.relative_to(folder).as_posix() for path in artifact_files(artifact)}
    if surplus := sorted(found - manifest.sha256.keys()):
        raise ArtifactError(f"{folder / surplus[0]} is not in the manifest")
    for name, digest in manifest.sha256.items():
        path = folder / name
        if not path.exists():
            raise ArtifactError(f"{path} is missing")
        check_file(path)
        if _digest(path) != digest.lower():
            raise ArtifactError(
                f"{path} was altered: its sha256 differs from the one in {FILE_NAME}"
            )
    return artifact


@contextmanager
def unchanged(manifest: Manifest, folder: Path) -> Iterator[None]:
    """Check that no file of the artifact is written or replaced while it is verified and loaded.

    Raises:
        ArtifactError: one was.
    """
    before = {name: _state(folder / name) for name in manifest.sha256}
    yield
    for name, state in before.items():
        if _state(folder / name) != state:
            raise ArtifactError(f"{folder / name} was written while the service loaded it")


def check_signature(manifest: Manifest, signature: Signature) -> None:
    """Check that the tensors of the manifest are those of the artifact.

    The manifest must have all inputs. It may leave out outputs that have names.

    Raises:
        ArtifactError: the artifact has other tensors.
    """
    for kind, found, declared in (
        ("input", signature.inputs, manifest.input_specs()),
        ("output", signature.outputs, manifest.output_specs()),
    ):
        if not found:
            continue
        if signature.named:
            pairs = _pairs_by_name(kind, found, declared)
        elif len(found) == len(declared):
            pairs = list(zip(found, declared, strict=True))
        else:
            raise ArtifactError(
                f"the model has {len(found)} {kind}s, the manifest has {len(declared)}"
            )
        for in_model, in_manifest in pairs:
            _compare(kind, in_model, in_manifest, converts=signature.converts)


def check_outputs(specs: Sequence[TensorSpec], outputs: Tensors) -> None:
    """Check that a model returned the outputs of its manifest.

    Raises:
        ArtifactError: an output is missing, or has another datatype or shape.
    """
    for spec in specs:
        array = outputs.get(spec.name)
        if array is None:
            raise ArtifactError(
                f"the manifest names the output '{spec.name}', which the model does not have"
            )
        if array.dtype != spec.dtype or not spec.accepts(array.shape):
            raise ArtifactError(
                f"the model's output '{spec.name}' is {array.dtype} {list(array.shape)}, "
                f"the manifest says {spec.datatype} {list(spec.shape)}"
            )


def check_numbers(manifest: Manifest, library: str) -> None:
    """Check that a manifest has no text, for a library that computes with numbers only.

    Raises:
        ArtifactError: one of its tensors is BYTES.
    """
    for kind, specs in (("input", manifest.input_specs()), ("output", manifest.output_specs())):
        for spec in specs:
            if spec.datatype == "BYTES":
                raise ArtifactError(
                    f"the {kind} '{spec.name}' is BYTES in the manifest, {library} has numbers only"
                )


def _pairs_by_name(
    kind: str, found: Sequence[TensorSpec], declared: Sequence[TensorSpec]
) -> list[tuple[TensorSpec, TensorSpec]]:
    by_name = {spec.name: spec for spec in found}
    for spec in declared:
        if spec.name not in by_name:
            raise ArtifactError(
                f"the model has no {kind} '{spec.name}', its {kind}s: {', '.join(by_name)}"
            )
    if kind == "input" and (missing := by_name.keys() - {spec.name for spec in declared}):
        raise ArtifactError(f"the manifest lacks the model's input '{min(missing)}'")
    return [(by_name[spec.name], spec) for spec in declared]


def _compare(kind: str, in_model: TensorSpec, in_manifest: TensorSpec, *, converts: bool) -> None:
    same_type = converts or in_model.datatype == in_manifest.datatype
    if not same_type or (in_model.shape and not in_model.accepts(in_manifest.shape)):
        raise ArtifactError(
            f"the {kind} '{in_manifest.name}' is {in_model.datatype} {list(in_model.shape)} in the "
            f"model, {in_manifest.datatype} {list(in_manifest.shape)} in the manifest"
        )


def _files_in(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the files of a folder, also behind links. ``above``: the folders that led to it.

    Kubernetes keeps the files of a volume in folders that begin with two dots, under names that
    change, and links to them: they are found by their links.
    """
    real = folder.resolve()
    if real in above:
        return
    for path in folder.iterdir():
        if path.name.startswith(".."):
            continue
        if path.is_dir():
            yield from _files_in(path, (*above, real))
        elif path.is_file():
            yield path


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _state(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is written or replaced; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tensor(spec: TensorSpec, renamed: Mapping[str, str]) -> Tensor:
    name = renamed.get(spec.name, spec.name)
    return Tensor(
        name=name,
        datatype=spec.datatype,
        shape=list(spec.shape),
        artifact_name=None if name == spec.name else spec.name,
    )
