"""Recognises artifacts that another runtime reads, or none, and says what to do with them.

A kind is told by the first bytes of a file, or by the names in an archive or a folder. Nothing of
the artifact is loaded or run.
"""

import bz2
import lzma
import pickletools
import re
import shlex
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.core.manifest import ArtifactError

_START: Final = 65_536
"""As many bytes of a file are looked at."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of artifact.

    ``title``: what it is, for a sentence. ``runtimes``: those that read it. ``code``: Python that
    converts the file ``sys.argv[1]`` to the file ``sys.argv[2]``; ``suffix``: that of the new file;
    ``gives``: the runtimes that read it. ``remedy``: what to do besides, or instead. ``exported``:
    whether PyTorch must export the module. ``pickled``: whether loading it can run any code.
    """

    title: str
    runtimes: tuple[str, ...] = ()
    code: str = ""
    suffix: str = ""
    gives: tuple[str, ...] = ()
    remedy: str = ""
    exported: bool = False
    pickled: bool = False


_ONNX: Final = Kind("an ONNX model", ("onnxruntime", "openvino"))
_SKOPS: Final = Kind("a scikit-learn model saved by skops", ("scikit-learn",))
_XGBOOST: Final = Kind("an XGBoost model", ("xgboost",))
_LIGHTGBM: Final = Kind("a LightGBM model", ("lightgbm",))
_EXPORTED: Final = Kind("a program exported by PyTorch", ("pytorch",))
_SAFETENSORS: Final = Kind("weights in safetensors", ("pytorch",))
_OPENVINO: Final = Kind("a model of OpenVINO", ("openvino",))
_FOLDER: Final = Kind("a folder of Transformers", ("transformers",))
_TFLITE: Final = Kind("a TensorFlow Lite model", ("openvino",))
_SAVED_MODEL: Final = Kind(
    "a SavedModel of TensorFlow",
    ("openvino",),
    remedy="convert it: python -m tf2onnx.convert --saved-model FOLDER --output NAME.onnx",
    gives=("onnxruntime", "openvino"),
)
_FROZEN_GRAPH: Final = Kind("a frozen graph of TensorFlow", ("openvino",))
_KERAS: Final = Kind(
    "a Keras model",
    code="import sys, keras; "
    'keras.saving.load_model(sys.argv[1]).export(sys.argv[2], format="onnx")',
    suffix=".onnx",
    gives=("onnxruntime", "openvino"),
)
_HDF5: Final = Kind(
    "an HDF5 file, probably of Keras", code=_KERAS.code, suffix=".onnx", gives=_KERAS.gives
)
_CATBOOST: Final = Kind("a CatBoost model", ("catboost",))
_TORCHSCRIPT: Final = Kind("TorchScript", exported=True)
_STATE_DICT: Final = Kind(
    "tensors saved by torch.save, such as a state_dict",
    code="import sys, torch; from safetensors.torch import save_file; "
    "save_file(torch.load(sys.argv[1], weights_only=True), sys.argv[2])",
    suffix=".safetensors",
    gives=("pytorch",),
    remedy="describe it with --parameter module, --input and --output",
)
_MODULE: Final = Kind("a pickled module of PyTorch", exported=True, pickled=True)
_PICKLES: Final = {
    "sklearn": Kind(
        "a pickle of scikit-learn",
        code="import sys, joblib, skops.io; skops.io.dump(joblib.load(sys.argv[1]), sys.argv[2])",
        suffix=".skops",
        gives=("scikit-learn",),
        pickled=True,
    ),
    "xgboost": Kind(
        "a pickle of XGBoost",
        code="import sys, joblib; joblib.load(sys.argv[1]).save_model(sys.argv[2])",
        suffix=".ubj",
        gives=("xgboost",),
        pickled=True,
    ),
    "lightgbm": Kind(
        "a pickle of LightGBM",
        code="import sys, joblib; model = joblib.load(sys.argv[1]); "
        'getattr(model, "booster_", model).save_model(sys.argv[2])',
        suffix=".txt",
        gives=("lightgbm",),
        pickled=True,
    ),
    "catboost": Kind(
        "a pickle of CatBoost",
        code="import sys, joblib; joblib.load(sys.argv[1]).save_model(sys.argv[2])",
        suffix=".cbm",
        gives=("catboost",),
        pickled=True,
    ),
    "torch": _MODULE,
}
_PICKLE: Final = Kind(
    "a pickle", remedy="save the model in the format of its own library", pickled=True
)
_NAMED: Final = re.compile(rb"\b(sklearn|xgboost|lightgbm|catboost|torch)\b")
_TORCH_EXPORT: Final = {
    "onnxruntime": 'torch.onnx.export(module, inputs, "NAME.onnx", dynamo=True)',
    "openvino": 'torch.onnx.export(module, inputs, "NAME.onnx", dynamo=True)',
    "pytorch": 'torch.export.save(torch.export.export(module, inputs), "NAME.pt2")',
}
_READ_ANYTHING: Final = "python"


def check(artifact: Path, runtime: str) -> None:
    """Check that an artifact is not of a kind that another runtime reads, or none.

    Raises:
        ArtifactError: it is. The text says what to do instead.
    """
    kind = None if runtime == _READ_ANYTHING else recognise(artifact)
    if kind is None or runtime in kind.runtimes:
        return
    raise ArtifactError(f"{artifact} is {kind.title}: {_advice(artifact, kind, runtime)}")


def recognise(artifact: Path) -> Kind | None:
    """Return the kind of a file or a folder, None if it is not known."""
    if artifact.is_dir():
        if (artifact / "saved_model.pb").is_file():
            return _SAVED_MODEL
        files = ("config.json", "modules.json")
        return _FOLDER if any((artifact / name).is_file() for name in files) else None
    with artifact.open("rb") as file:
        start = file.read(_START)
    if zipfile.is_zipfile(artifact):
        return _of_archive(artifact)
    return _of_bytes(start, artifact.suffix.lower()) or _of_bytes(_decompressed(start), "")


def _advice(artifact: Path, kind: Kind, runtime: str) -> str:
    if kind.exported:
        reader = runtime if runtime in _TORCH_EXPORT else "pytorch"
        parts = [f"export the module with {_TORCH_EXPORT[reader]}"]
    else:
        readers = kind.gives or kind.runtimes or (runtime,)
        reader = runtime if runtime in readers else readers[0]
        parts = [kind.remedy] if kind.remedy else []
    if kind.code:
        files = [str(artifact), str(artifact.with_suffix(kind.suffix))]
        parts.insert(0, f"convert it: {shlex.join(['python', '-c', kind.code, *files])}")
    if reader != runtime:
        what = "the result" if parts else "it"
        switch = f"copier update -r :current: --data runtime={reader}"
        parts.append(f"a service with the runtime '{reader}' reads {what}: {switch}")
    if kind.pickled:
        parts[0] = f"loading it runs whatever code is in it; if you trust it, {parts[0]}"
        parts.append("or load it in code of your own, with the runtime 'python'")
    return "; ".join(parts)


def _of_archive(artifact: Path) -> Kind | None:
    """Return the kind of a zip archive. PyTorch and others put all members into one folder."""
    try:
        with zipfile.ZipFile(artifact) as archive:
            members = archive.namelist()
            below = {name.partition("/")[2]: name for name in members}
            if "schema.json" in members:
                return _SKOPS
            if "config.json" in members and "metadata.json" in members:
                return _KERAS
            if "models/model.json" in below or "archive_format" in below:
                return _EXPORTED
            if any(name.startswith("code/") for name in below):
                return _TORCHSCRIPT
            if "data.pkl" in below:
                with archive.open(below["data.pkl"]) as file:
                    return _of_torch(file.read(16 * _START))
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, NotImplementedError):
        pass
    return None


def _of_bytes(start: bytes, suffix: str) -> Kind | None:
    if re.match(rb"\x80[\x02-\x05]", start):
        return _of_pickle(start)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return _HDF5
    if start.startswith(b"CBM1"):
        return _CATBOOST
    if start[4:8] == b"TFL3":
        return _TFLITE
    if start.startswith(b"tree\n"):
        return _LIGHTGBM
    if start.startswith(b"{") and b"learner" in start[:64]:
        return _XGBOOST
    if re.match(rb"\s*<(\?xml|net\b)", start) and b"<net " in start[:4096]:
        return _OPENVINO
    if start[8:10] in (b'{"', b"{}") and int.from_bytes(start[:8], "little") < 2**32:
        return _SAFETENSORS
    # Protocol buffers do not name their kind: an ONNX model begins with a version from 3 on, a
    # SavedModel with version 1, a frozen graph with its first node.
    if re.match(rb"\x08[\x03-\x1f][\x12\x1a\x22\x2a\x32\x3a\x42]", start):
        return _ONNX
    if suffix == ".pb":
        return _SAVED_MODEL if start.startswith(b"\x08\x01\x12") else _FROZEN_GRAPH
    return None


def _of_pickle(start: bytes) -> Kind:
    """Return the kind of a pickle, by the first library that it names."""
    if b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" in start[:32]:  # PyTorch before 1.6
        return _of_torch(start)
    named = _NAMED.search(start)
    return _PICKLES[named[1].decode()] if named else _PICKLE


def _of_torch(pickled: bytes) -> Kind:
    """Return whether torch.save has pickled tensors only, or objects that need their code."""
    tensors = ("collections", "torch", "torch._utils", "torch.storage", "numpy", "_codecs")
    texts: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(pickled):
            module = str(argument).partition(" ")[0] if opcode.name == "GLOBAL" else ""
            if opcode.name == "STACK_GLOBAL" and len(texts) > 1:
                module = texts[-2]
            if module and module not in tensors:
                return _MODULE
            if isinstance(argument, str):
                texts.append(argument)
    except ValueError:  # cut off, or several pickles in one file
        pass
    return _STATE_DICT


def _decompressed(start: bytes) -> bytes:
    """Return the first bytes of a compressed file, as joblib writes them; empty if it is none."""
    try:
        if start.startswith((b"\x1f\x8b", b"\x78")):
            return zlib.decompressobj(wbits=47).decompress(start, _START)
        if start.startswith(b"BZh"):
            return bz2.BZ2Decompressor().decompress(start, _START)
        if start.startswith((b"\xfd7zXZ\x00", b"\x5d\x00\x00")):
            return lzma.LZMADecompressor().decompress(start, _START)
    except (zlib.error, OSError, lzma.LZMAError):
        pass
    return b""
