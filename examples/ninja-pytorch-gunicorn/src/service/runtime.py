"""PyTorch: an exported program (``.pt2``), or the weights (``.safetensors``) of a module of yours.

A ``.pt2`` describes its tensors. For ``.safetensors`` the manifest's parameter ``module`` names a
function, ``package.module:function``, that makes the ``torch.nn.Module``. Inputs are passed in the
order of the manifest. Outputs are taken by name if the module returns a dictionary, else in order.

The library is imported where it is used, so that importing this module stays cheap.
"""

import contextlib
import importlib
import logging
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from service.core import devices
from service.core.manifest import ArtifactError, Manifest, check_numbers
from service.core.tensors import Signature, Tensors, TensorSpec, convert_output, datatype_of

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

RUNTIME: Final = "pytorch"

_DATA: Final = re.compile(
    r"[^/]+/(models/model\.json"
    r"|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt"
    r"|extra/.+|archive_format|archive_version|byteorder|version|\.data/[^/]+)"
)
"""Members of a ``.pt2`` that hold data; any other may hold pickled objects or machine code."""

_OPTIONS: Final = "describe its tensors with --input and --output"


class Model:
    """A module on its device.

    ``keywords``: the names under which the last inputs are passed.
    """

    def __init__(
        self,
        module: Callable[..., Any],
        signature: Signature,
        manifest: Manifest,
        device: "torch.device",
        keywords: Sequence[str] = (),
    ) -> None:
        self.signature = signature
        self._module = module
        self._inputs = [tensor.name for tensor in manifest.inputs]
        self._outputs = manifest.output_specs()
        self._device = device
        self._keywords = keywords

    def run(self, batch: Tensors) -> Tensors:
        """Run the module on tensors by their names, rows along the first axis."""
        import torch

        with torch.inference_mode():
            # Copies: PyTorch ignores that the arrays are read-only.
            tensors = [torch.tensor(batch[name], device=self._device) for name in self._inputs]
            positional = len(tensors) - len(self._keywords)
            keywords = zip(self._keywords, tensors[positional:], strict=True)
            result = self._module(*tensors[:positional], **dict(keywords))
        return {
            spec.name: convert_output(spec, tensor.cpu().numpy())
            for spec, tensor in zip(self._outputs, self._select(result), strict=True)
        }

    def _select(self, result: Any) -> "Sequence[torch.Tensor]":
        if isinstance(result, Mapping):
            return [result[spec.name] for spec in self._outputs]
        tensors = result if isinstance(result, list | tuple) else [result]
        found, named = len(tensors), len(self._outputs)
        if found != named:
            raise ValueError(f"the module returns {found} tensors, the manifest names {named}")
        return tensors


def load(artifact: Path, manifest: Manifest, *, threads: int, device: str) -> Model:
    """Load a program or a module onto a device: ``cpu``, ``cuda``, ``cuda:1`` and so on.

    Raises:
        ArtifactError: the file is not a model or holds more than data, or the device is not
            available.
    """
    check_numbers(manifest, "PyTorch")
    # Threads that spin between batches would take CPU time from the event loop.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch
    from torch.export.passes import move_to_device_pass

    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:  # may be set once only
        torch.set_num_interop_threads(1)
    target = _device(device)
    if artifact.suffix == ".safetensors":
        module = _module(artifact, manifest.parameters, target)
        _check_placement(module, target)
        return Model(module, Signature((), ()), manifest, target)
    program = _program(artifact)
    signature = _signature(program)
    if _output_names(program):
        names = [tensor.name for tensor in manifest.outputs]
        signature = replace(signature, outputs=_pick(signature.outputs, names))
    keywords = list(program.example_inputs[1]) if program.example_inputs else []
    moved = move_to_device_pass(program, target).module()
    _check_placement(moved, target)
    return Model(moved, signature, manifest, target, keywords)


def inspect(artifact: Path, parameters: dict[str, Any]) -> Signature:
    """Read inputs and outputs from an exported program.

    Raises:
        ArtifactError: the file is not a program, or does not describe all of its tensors.
    """
    if artifact.suffix == ".safetensors":
        raise ArtifactError(
            f"{artifact} holds weights only: {_OPTIONS}, and name the function that makes the "
            "module with --parameter 'module=\"service.network:make\"'"
        )
    return _signature(_program(artifact))


def _device(name: str) -> "torch.device":
    import torch

    try:
        torch.ones(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        raise devices.unavailable(name, str(error).partition("\n")[0]) from error
    # TF32 would round so much that the rows of a batch differ from the same rows alone.
    torch.backends.cudnn.allow_tf32 = False
    return torch.device(name)


def _check_placement(module: "torch.nn.Module", device: "torch.device") -> None:
    """Check that the weights are on the device.

    Raises:
        ArtifactError: some are elsewhere.
    """
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.device.type != device.type or device.index not in (None, tensor.device.index):
            raise devices.not_used(str(device), f"lacks '{name}', which is on {tensor.device}")


def _program(artifact: Path) -> "ExportedProgram":
    import torch

    # PyTorch unpickles parts of an archive: tensors only, whatever the archive asks for.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    logged: list[BaseException] = []
    try:
        with zipfile.ZipFile(artifact) as archive:
            code = [name for name in archive.namelist() if not _DATA.fullmatch(name)]
        if code:
            raise ArtifactError(f"{artifact} holds more than data: {code[0]}")
        with _logged_errors(logged):
            return torch.export.load(artifact)
    except ArtifactError:
        raise
    except Exception as error:
        cause = logged[0] if logged else error
        raise ArtifactError(f"{artifact} cannot be loaded: {_one_line(cause)}") from error


@contextlib.contextmanager
def _logged_errors(found: list[BaseException]) -> Iterator[None]:
    """Collect what PyTorch logs with a traceback before it raises an error that says nothing."""

    def collect(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        while error is not None and error.__cause__ is not None:
            error = error.__cause__
        if error is not None:
            found.append(error)
        return error is None

    logger = logging.getLogger("torch.export")
    logger.addFilter(collect)
    try:
        yield
    finally:
        logger.removeFilter(collect)


def _module(
    artifact: Path, parameters: dict[str, Any], device: "torch.device"
) -> "torch.nn.Module":
    from safetensors.torch import load_model

    path, _, function = str(parameters.get("module", "")).partition(":")
    try:
        module: torch.nn.Module = getattr(importlib.import_module(path), function)()
    except Exception as error:
        raise ArtifactError(
            "the manifest's parameter 'module' must name a function that makes the module, "
            f"'package.module:function': {_one_line(error)}"
        ) from error
    try:
        load_model(module, artifact)
    except Exception as error:
        raise ArtifactError(f"{artifact} cannot be loaded: {_one_line(error)}") from error
    return module.to(device).eval()


def _signature(program: "ExportedProgram") -> Signature:
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    signature = program.graph_signature
    inputs, outputs = signature.user_inputs, signature.user_outputs
    names = _output_names(program) or [f"output_{index}" for index in range(len(outputs))]
    return Signature(
        tuple(_spec(str(name), values.get(name)) for name in inputs),
        tuple(_spec(name, values.get(node)) for name, node in zip(names, outputs, strict=True)),
    )


def _output_names(program: "ExportedProgram") -> list[str]:
    """Return the keys of the dictionary that a program returns; empty if it returns none."""
    spec = program.call_spec.out_spec
    return spec.context if spec and isinstance(spec.context, list) else []


def _spec(name: str, value: Any) -> TensorSpec:
    try:
        datatype = datatype_of(str(value.dtype).removeprefix("torch."))
    except (AttributeError, ValueError):
        raise ArtifactError(f"'{name}' is not a tensor that can be served: {_OPTIONS}") from None
    return TensorSpec(
        name, datatype, tuple(size if isinstance(size, int) else -1 for size in value.shape)
    )


def _pick(outputs: Sequence[TensorSpec], names: Sequence[str]) -> tuple[TensorSpec, ...]:
    found = {spec.name: spec for spec in outputs}
    for name in names:
        if name not in found:
            raise ArtifactError(
                f"the program has no output '{name}', its outputs: {', '.join(found)}"
            )
    return tuple(found[name] for name in names)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
