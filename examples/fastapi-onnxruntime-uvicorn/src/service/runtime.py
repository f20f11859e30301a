"""ONNX Runtime: a model in an ``.onnx`` file, with its external data in files beside it.

The library is imported where it is used, so that importing this module stays cheap.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from service.core import devices
from service.core.manifest import ArtifactError, Manifest, external_data
from service.core.onnx_scalars import scalars
from service.core.tensors import (
    Signature,
    Tensors,
    TensorSpec,
    Undescribed,
    decode_text,
    encode_text,
)

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg, SessionOptions

RUNTIME: Final = "onnxruntime"

log = logging.getLogger("service.runtime")

_PROVIDERS: Final = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "dml": "DmlExecutionProvider",
}
_ON_CUDA: Final = ("cuda", "tensorrt")
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
        self.signature = _signature(session)
        self._session = session
        self._outputs = [tensor.name for tensor in manifest.outputs]
        self._texts = [tensor.name for tensor in manifest.inputs if tensor.datatype == "BYTES"]

    def run(self, batch: Tensors) -> Tensors:
        """Run the model on tensors by their names, rows along the first axis."""
        texts = {name: decode_text(name, batch[name]) for name in self._texts}
        arrays = self._session.run(self._outputs, {**batch, **texts})
        return {
            name: encode_text(array) if array.dtype == object else array
            for name, array in zip(self._outputs, arrays, strict=True)
        }


def load(artifact: Path, manifest: Manifest, *, threads: int, device: str) -> Model:
    """Open a session on a device: ``cpu``, ``cuda``, ``cuda:1``, ``tensorrt`` and so on.

    Raises:
        ArtifactError: the file is not a model, or the device is not available or would not be used.
    """
    return Model(_open(artifact, threads, device), manifest)


def inspect(artifact: Path, parameters: dict[str, Any]) -> Signature:
    """Read inputs and outputs from the model.

    Raises:
        ArtifactError: the file is not a model.
    """
    session = _open(artifact, threads=1, device="cpu")
    signature = _signature(session)
    known = scalars(artifact)
    undescribed = [
        Undescribed(kind, node.name, f"{node.type} of shape {node.shape}")
        for kind, nodes in (("input", session.get_inputs()), ("output", session.get_outputs()))
        for node in nodes
        if node.type not in _DATATYPES or not (node.shape or node.name in known)
    ]
    return replace(signature, undescribed=tuple(undescribed))


def _open(artifact: Path, threads: int, device: str) -> "InferenceSession":
    import onnxruntime

    kind, _, index = device.lower().partition(":")
    provider = _PROVIDERS.get(kind)
    available = onnxruntime.get_available_providers()
    if provider not in available or not (index or "0").isdecimal():
        names = [name for name, needed in _PROVIDERS.items() if needed in available]
        raise devices.unavailable(device, f"this onnxruntime has: {', '.join(names)}")
    if kind in _ON_CUDA:
        onnxruntime.preload_dlls()  # from the wheels, which no loader searches
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised as well
    # Threads that spin between batches would take CPU time from the event loop.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    provider_options = {"device_id": index} if index else {}
    if kind == "cuda":
        # TF32 would round so much that the rows of a batch differ from the same rows alone.
        provider_options["use_tf32"] = "0"
    weights = _add_external_data(options, artifact)
    try:
        session = onnxruntime.InferenceSession(
            str(artifact),
            options,
            providers=[(provider, provider_options)],
            enable_fallback=0,  # or it would open the model elsewhere, and only print that it did
        )
    except Exception as error:
        cause = str(error).partition("\n")[0]
        if f"{artifact}/" in cause:
            cause = "a subgraph has external data, save its weights in the file itself"
        if kind != "cpu" and _opens(artifact):
            raise devices.unavailable(device, cause) from error
        raise ArtifactError(f"{artifact} cannot be loaded: {cause}") from error
    del weights
    if session.get_providers()[0] != provider:
        raise devices.unavailable(device, "onnxruntime fell back to another")
    if kind != "cpu":
        _check_placement(session, str(provider), device)
    return session


def _opens(artifact: Path) -> bool:
    """Return whether a model can be opened on the CPU, so that a failure is that of a device."""
    try:
        _open(artifact, threads=1, device="cpu")
    except ArtifactError:
        return False
    return True


def _check_placement(session: "InferenceSession", provider: str, device: str) -> None:
    """Check where the operators run: ONNX Runtime leaves those to the CPU that a device lacks.

    Raises:
        ArtifactError: none runs on the device.
    """
    elsewhere: Counter[str] = Counter()
    there = 0
    for part in session.get_provider_graph_assignment_info():
        names = [node.op_type for node in part.get_nodes()]
        if part.ep_name == provider:
            there += len(names)
        else:
            elsewhere.update(names)
    if not there:
        raise devices.not_used(device, f"has none of its operators ({', '.join(elsewhere)})")
    if elsewhere:
        log.warning(
            "%d of %d operators run on the CPU, not on %s: %s",
            elsewhere.total(),
            there + elsewhere.total(),
            device,
            ", ".join(f"{count} {name}" for name, count in sorted(elsewhere.items())),
        )


def _add_external_data(options: "SessionOptions", artifact: Path) -> list[bytes]:
    """Give a session the external data from memory, which must live until it has copied it.

    ONNX Runtime itself would map the files, and answer with what is written into them later. It
    gets a folder that does not exist, so that it reads none by itself.
    """
    files = external_data(artifact)
    contents = [path.read_bytes() for path in files.values()]
    options.add_external_initializers_from_files_in_memory(
        list(files), contents, [len(content) for content in contents]
    )
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(artifact)
    )
    return contents


def _signature(session: "InferenceSession") -> Signature:
    """Return the tensors that the protocol can carry."""
    return Signature(_specs(session.get_inputs()), _specs(session.get_outputs()), named=True)


def _specs(nodes: "Sequence[NodeArg]") -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(node.name, _DATATYPES[node.type], _shape(node))
        for node in nodes
        if node.type in _DATATYPES
    )


def _shape(node: "NodeArg") -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else -1 for size in node.shape)
