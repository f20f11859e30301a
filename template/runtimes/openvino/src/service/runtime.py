"""OpenVINO: a model as its own IR (``.xml`` with ``.bin`` beside it) or as ONNX (``.onnx``).

The library is imported where it is used: a process that only needs this module's names stays small.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from service.manifest import ArtifactError, Manifest
from service.tensors import Tensors, TensorSpec

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


class Model:
    """An inference request of a compiled model."""

    def __init__(self, request: "openvino.InferRequest", outputs: dict[str, int]) -> None:
        self._request = request
        self._outputs = outputs

    def run(self, batch: Tensors) -> Tensors:
        """Run the model on tensors by their names, rows along the first axis."""
        arrays = self._request.infer(batch, share_inputs=True)
        return {name: arrays[index] for name, index in self._outputs.items()}


def load(artifact: Path, manifest: Manifest, *, threads: int, device: str) -> Model:
    """Compile a model for a device: ``cpu``, ``gpu``, ``gpu.1``, ``npu``.

    Raises:
        ArtifactError: the file is no model, its tensors are not the manifest's, or the device is
            not available.
    """
    core, model = _read(artifact)
    target = device.upper()
    # The name of a family stands for its first device. What chooses a device by itself, such as
    # AUTO, is none.
    if not any(name == target or name.startswith(f"{target}.") for name in core.available_devices):
        devices = ", ".join(core.available_devices).lower()
        raise ArtifactError(f"the device '{device}' is not available, this OpenVINO has: {devices}")
    _compare("input", model.inputs, manifest.input_specs())
    _compare("output", model.outputs, manifest.output_specs())
    if len(model.inputs) != len(manifest.inputs):
        names = ", ".join(_name(port) for port in model.inputs)
        raise ArtifactError(f"the manifest must have all inputs of the model: {names}")
    order = [_name(port) for port in model.outputs]
    outputs = {tensor.name: order.index(tensor.name) for tensor in manifest.outputs}
    try:
        compiled = core.compile_model(model, target, _options(target, threads))
        return Model(compiled.create_infer_request(), outputs)
    except RuntimeError as error:
        raise ArtifactError(f"{artifact} cannot be compiled: {_cause(error)}") from error


def inspect(
    artifact: Path, parameters: dict[str, Any]
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Read inputs and outputs from the model.

    Raises:
        ArtifactError: the file is no model, or does not tell what one of its tensors is.
    """
    _, model = _read(artifact)
    return (
        tuple(_spec("input", port) for port in model.inputs),
        tuple(_spec("output", port) for port in model.outputs),
    )


def _read(artifact: Path) -> "tuple[openvino.Core, openvino.Model]":
    from openvino import Core

    core = Core()
    try:
        return core, core.read_model(artifact)
    except RuntimeError as error:
        raise ArtifactError(f"{artifact} cannot be loaded: {_cause(error)}") from error


def _options(device: str, threads: int) -> dict[str, Any]:
    # Without EXECUTION_MODE_HINT some processors compute in bfloat16.
    options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "EXECUTION_MODE_HINT": "ACCURACY"}
    if device.startswith("CPU"):
        # Pinned threads of two workers would share the same cores.
        options |= {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
    return options


def _compare(kind: str, ports: "Sequence[openvino.Output]", specs: Sequence[TensorSpec]) -> None:
    found = {_name(port): port for port in ports}
    for spec in specs:
        port = found.get(spec.name)
        if port is None:
            raise ArtifactError(
                f"the model has no {kind} '{spec.name}', its {kind}s: {', '.join(found)}"
            )
        shape = port.partial_shape
        fits = shape.rank.is_dynamic or TensorSpec("", spec.datatype, _shape(port)).accepts(
            spec.shape
        )
        datatype = port.element_type.get_type_name()
        if _DATATYPES.get(datatype) != spec.datatype or not fits:
            raise ArtifactError(
                f"the {kind} '{spec.name}' is {datatype} {shape} in the model, "
                f"{spec.datatype} {list(spec.shape)} in the manifest"
            )


def _spec(kind: str, port: "openvino.Output") -> TensorSpec:
    datatype = port.element_type.get_type_name()
    if datatype not in _DATATYPES or port.partial_shape.rank.is_dynamic:
        raise ArtifactError(
            f"the {kind} '{_name(port)}' is {datatype} {port.partial_shape}: name the tensors to "
            "serve with --input and --output"
        )
    return TensorSpec(_name(port), _DATATYPES[datatype], _shape(port))


def _name(port: "openvino.Output") -> str:
    return str(min(port.get_names(), default=port.get_node().get_friendly_name()))


def _shape(port: "openvino.Output") -> tuple[int, ...]:
    return tuple(size.get_length() if size.is_static else -1 for size in port.partial_shape)


def _cause(error: Exception) -> str:
    return str(error).strip().rpartition("\n")[2]
