"""OpenVINO: a model as its own IR (``.xml`` with ``.bin`` beside it) or as ONNX (``.onnx``).

OpenVINO computes 64-bit integers in 32 bits, and FP64 in FP32. Integers that do not fit are
refused: it would take their lower half.

The library is imported where it is used, so that importing this module stays cheap.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from service.core.errors import InvalidTensors
from service.core.manifest import ArtifactError, Manifest
from service.core.tensors import Signature, Tensors, TensorSpec, Undescribed

if TYPE_CHECKING:
    import openvino

RUNTIME: Final = "openvino"

_DATATYPES: Final = {
    "boolean": "BOOL",
    "i8": "INT8",
    "i16": "INT16",
    "i32": "INT32",
    "i64": "INT64",
    "u8": "UINT8",
    "u16": "UINT16",
    "u32": "UINT32",
    "u64": "UINT64",
    "f16": "FP16",
    "f32": "FP32",
    "f64": "FP64",
}
_WIDE: Final = ("UINT32", "INT64", "UINT64")
"""The datatypes that OpenVINO computes as INT32."""
_INT32: Final = np.iinfo(np.int32)


class Model:
    """A compiled model.

    ``compile_model``: makes an inference request of it. ``outputs``: the index of each output.
    ``scalars``: the inputs without dimensions.
    """

    def __init__(
        self,
        compile_model: "Callable[[], openvino.InferRequest]",
        signature: Signature,
        outputs: dict[str, int],
        scalars: Sequence[str],
    ) -> None:
        self.signature = signature
        self._compile = compile_model
        self._request = compile_model()
        self._outputs = outputs
        self._scalars = scalars
        self._wide = [spec.name for spec in signature.inputs if spec.datatype in _WIDE]

    def run(self, batch: Tensors) -> Tensors:
        """Run the model on tensors by their names, rows along the first axis."""
        for name in self._wide:
            values = batch[name]
            if values.size and not _INT32.min <= values.min() <= values.max() <= _INT32.max:
                raise InvalidTensors(
                    f"The input '{name}' may have values from {_INT32.min} to {_INT32.max}."
                )
        # OpenVINO copies arrays that it must not write to, except scalars, which it refuses.
        scalars = {name: batch[name].copy() for name in self._scalars}
        try:
            # infer() does not raise in one thread: it returns the outputs of the run before.
            self._request.start_async({**batch, **scalars}, share_inputs=True)
            self._request.wait()
        except RuntimeError:
            # What it has prepared stays half done: the model would fail, or answer with what is in
            # unset memory, for inputs that are right.
            self._request = self._compile()
            raise
        arrays = self._request.results
        return {name: arrays[index] for name, index in self._outputs.items()}


def load(artifact: Path, manifest: Manifest, *, threads: int, device: str) -> Model:
    """Compile a model for a device: ``cpu``, ``gpu``, ``gpu.1``, ``npu``.

    Raises:
        ArtifactError: the file is not a model, or the device is not available.
    """
    core, model = _read(artifact)
    target = device.upper()
    # The name of a family stands for its first device. AUTO and its like are refused: they choose
    # a device by themselves.
    if not any(name == target or name.startswith(f"{target}.") for name in core.available_devices):
        devices = ", ".join(core.available_devices).lower()
        raise ArtifactError(f"the device '{device}' is not available, this OpenVINO has: {devices}")
    wanted = {tensor.name for tensor in manifest.outputs}
    names = [_name(port) for port in model.outputs]
    outputs = {name: index for index, name in enumerate(names) if name in wanted}
    scalars = [tensor.name for tensor in manifest.inputs if not tensor.shape]
    options = _options(target, threads)

    def compile_model() -> "openvino.InferRequest":
        return core.compile_model(model, target, options).create_infer_request()

    try:
        return Model(compile_model, _signature(model), outputs, scalars)
    except RuntimeError as error:
        raise ArtifactError(f"{artifact} cannot be compiled: {_cause(error)}") from error


def inspect(artifact: Path, parameters: dict[str, Any]) -> Signature:
    """Read inputs and outputs from the model.

    Raises:
        ArtifactError: the file is not a model.
    """
    _, model = _read(artifact)
    undescribed = [
        Undescribed(kind, _name(port), f"{_datatype(port)} {port.partial_shape}")
        for kind, ports in (("input", model.inputs), ("output", model.outputs))
        for port in ports
        if _datatype(port) not in _DATATYPES or port.partial_shape.rank.is_dynamic
    ]
    return replace(_signature(model), undescribed=tuple(undescribed))


def _read(artifact: Path) -> "tuple[openvino.Core, openvino.Model]":
    from openvino import Core

    core = Core()
    # Mapped into memory, the weights would change with the file.
    core.set_property({"ENABLE_MMAP": False})
    try:
        return core, core.read_model(artifact)
    except RuntimeError as error:
        cause = _cause(error)
        _, unknown, operations = cause.partition("No conversion rule found for operations: ")
        if unknown:
            cause = f"OpenVINO does not have {operations}: use the runtime onnxruntime"
        raise ArtifactError(f"{artifact} cannot be loaded: {cause}") from error


def _options(device: str, threads: int) -> dict[str, Any]:
    # Without EXECUTION_MODE_HINT some processors compute in bfloat16.
    options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "EXECUTION_MODE_HINT": "ACCURACY"}
    if device.startswith("CPU"):
        # Pinned threads of two workers would share the same cores.
        options |= {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
    return options


def _signature(model: "openvino.Model") -> Signature:
    """Return the tensors that the protocol can carry."""
    return Signature(_specs(model.inputs), _specs(model.outputs), named=True)


def _specs(ports: "Sequence[openvino.Output]") -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(_name(port), _DATATYPES[_datatype(port)], _shape(port))
        for port in ports
        if _datatype(port) in _DATATYPES
    )


def _datatype(port: "openvino.Output") -> str:
    return str(port.element_type.get_type_name())


def _name(port: "openvino.Output") -> str:
    return str(min(port.get_names(), default=port.get_node().get_friendly_name()))


def _shape(port: "openvino.Output") -> tuple[int, ...]:
    if port.partial_shape.rank.is_dynamic:
        return ()
    return tuple(size.get_length() if size.is_static else -1 for size in port.partial_shape)


def _cause(error: Exception) -> str:
    return str(error).strip().rpartition("\n")[2]
