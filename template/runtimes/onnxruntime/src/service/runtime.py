"""ONNX Runtime: a model in an ``.onnx`` file, with its external data in ``.onnx.data`` beside it.

The library is imported where it is used: a process that only needs this module's names stays small.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from service.manifest import ArtifactError, Manifest
from service.tensors import Array, Tensors, TensorSpec

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg

RUNTIME: Final = "onnxruntime"

_PROVIDERS: Final = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "dml": "DmlExecutionProvider",
}
_DATATYPES: Final = {
    "tensor(bool)": "BOOL",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


class Model:
    """An inference session."""

    def __init__(self, session: "InferenceSession", manifest: Manifest) -> None:
        self._session = session
        self._outputs = [tensor.name for tensor in manifest.outputs]
        self._texts = [tensor.name for tensor in manifest.inputs if tensor.datatype == "BYTES"]

    def run(self, batch: Tensors) -> Tensors:
        """Run the model on tensors by their names, rows along the first axis."""
        texts = {name: _decode(batch[name]) for name in self._texts}
        arrays = self._session.run(self._outputs, {**batch, **texts})
        return {
            name: _encode(array) if array.dtype == object else array
            for name, array in zip(self._outputs, arrays, strict=True)
        }


def load(artifact: Path, manifest: Manifest, *, threads: int, device: str) -> Model:
    """Open a session on a device: ``cpu``, ``cuda``, ``cuda:1``, ``tensorrt`` and so on.

    Raises:
        ArtifactError: the file is no model, its tensors are not the manifest's, or the device is
            not available.
    """
    session = _open(artifact, threads, device)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    _compare("input", inputs, manifest.input_specs())
    _compare("output", outputs, manifest.output_specs())
    if unfed := {node.name for node in inputs} - {tensor.name for tensor in manifest.inputs}:
        raise ArtifactError(f"the manifest lacks the model's input '{min(unfed)}'")
    return Model(session, manifest)


def inspect(
    artifact: Path, parameters: dict[str, Any]
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Read inputs and outputs from the model.

    Raises:
        ArtifactError: the file is no model, or does not tell what one of its tensors is.
    """
    session = _open(artifact, threads=1, device="cpu")
    return (
        tuple(_spec("input", node) for node in session.get_inputs()),
        tuple(_spec("output", node) for node in session.get_outputs()),
    )


def _open(artifact: Path, threads: int, device: str) -> "InferenceSession":
    import onnxruntime

    kind, _, index = device.lower().partition(":")
    provider = _PROVIDERS.get(kind)
    available = onnxruntime.get_available_providers()
    if provider not in available or not (index or "0").isdecimal():
        devices = [name for name, needed in _PROVIDERS.items() if needed in available]
        raise ArtifactError(
            f"the device '{device}' is not available, this onnxruntime has: {', '.join(devices)}"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that spin between batches would take the processor from the event loop.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    provider_options = {"device_id": index} if index else {}
    try:
        session = onnxruntime.InferenceSession(
            str(artifact), options, providers=[(provider, provider_options)]
        )
    except Exception as error:
        cause = str(error).partition("\n")[0]
        raise ArtifactError(f"{artifact} cannot be loaded: {cause}") from error
    if provider not in session.get_providers():
        raise ArtifactError(f"the device '{device}' failed, onnxruntime fell back to another")
    return session


def _compare(kind: str, nodes: "Sequence[NodeArg]", specs: Sequence[TensorSpec]) -> None:
    found = {node.name: node for node in nodes}
    for spec in specs:
        node = found.get(spec.name)
        if node is None:
            raise ArtifactError(
                f"the model has no {kind} '{spec.name}', its {kind}s: {', '.join(found)}"
            )
        # No dimensions: a scalar, or a tensor whose rank the model does not tell.
        fits = not node.shape or TensorSpec("", spec.datatype, _shape(node)).accepts(spec.shape)
        if _DATATYPES.get(node.type) != spec.datatype or not fits:
            raise ArtifactError(
                f"the {kind} '{spec.name}' is {node.type} {node.shape} in the model, "
                f"{spec.datatype} {list(spec.shape)} in the manifest"
            )


def _spec(kind: str, node: "NodeArg") -> TensorSpec:
    if node.type not in _DATATYPES or not node.shape:
        raise ArtifactError(
            f"the {kind} '{node.name}' is {node.type} of shape {node.shape}: name the tensors "
            "to serve with --input and --output"
        )
    return TensorSpec(node.name, _DATATYPES[node.type], _shape(node))


def _shape(node: "NodeArg") -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else -1 for size in node.shape)


def _decode(array: Array) -> Array:
    texts = [value.decode("utf-8", "replace") for value in array.flat]
    return np.array(texts, dtype=object).reshape(array.shape)


def _encode(array: Array) -> Array:
    values = [str(text).encode() for text in array.flat]
    return np.array(values, dtype=object).reshape(array.shape)
