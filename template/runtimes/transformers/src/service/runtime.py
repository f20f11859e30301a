"""Transformers: a folder with a sequence classifier, its tokenizer and its safetensors weights.

Nothing is downloaded, and no code from the folder is run. The input is one text per row, the output
the probability of each label, in the order of ``id2label`` in ``config.json``.

The library is imported where it is used, so that importing this module stays cheap.
"""

import json
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from service.core.manifest import ArtifactError, Manifest, artifact_files
from service.core.tensors import Signature, Tensors, TensorSpec, decode_text

if TYPE_CHECKING:
    import torch

RUNTIME: Final = "transformers"

_LOCAL: Final[dict[str, Any]] = {"local_files_only": True, "trust_remote_code": False}


class Model:
    """A tokenizer, and a classifier on its device."""

    def __init__(
        self,
        tokenizer: Any,
        classifier: Any,
        signature: Signature,
        manifest: Manifest,
        device: "torch.device",
    ) -> None:
        self.signature = signature
        positions = getattr(classifier.config, "max_position_embeddings", None)
        self._tokenizer = tokenizer
        self._classifier = classifier
        self._device = device
        self._input = manifest.inputs[0].name
        self._output = manifest.output_specs()[0]
        self._longest = min(tokenizer.model_max_length, positions or tokenizer.model_max_length)
        self._exclusive = classifier.config.problem_type != "multi_label_classification"

    def run(self, batch: Tensors) -> Tensors:
        """Classify texts in UTF-8. Texts that are too long for the model are truncated."""
        import torch

        tokens = self._tokenizer(
            decode_text(self._input, batch[self._input]).tolist(),
            padding=True,
            truncation=True,
            max_length=self._longest,
            return_tensors="pt",
        )
        with torch.inference_mode():
            logits = self._classifier(**tokens.to(self._device)).logits.float()
            probabilities = logits.softmax(dim=-1) if self._exclusive else logits.sigmoid()
        array = probabilities.cpu().numpy()
        return {self._output.name: array.astype(self._output.dtype, copy=False)}


def load(artifact: Path, manifest: Manifest, *, threads: int, device: str) -> Model:
    """Load a classifier onto a device: ``cpu``, ``cuda``, ``cuda:1`` and so on.

    Raises:
        ArtifactError: the folder is not a complete classifier, or the device is not available.
    """
    signature = inspect(artifact, manifest.parameters)
    import torch

    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:  # may be set once only
        torch.set_num_interop_threads(1)
    target = _device(device)
    tokenizer, classifier = _read(artifact)
    return Model(tokenizer, classifier.to(target).eval(), signature, manifest, target)


def inspect(artifact: Path, parameters: dict[str, Any]) -> Signature:
    """Read the number of labels from the folder's configuration.

    Raises:
        ArtifactError: the folder has no configuration, or one of another kind of model.
    """
    _configure()
    from transformers import AutoConfig

    if not (artifact / "config.json").is_file():
        raise ArtifactError(
            f"{artifact} has no config.json: it must be a folder that save_pretrained has written"
        )
    try:
        config = AutoConfig.from_pretrained(artifact, **_LOCAL)
    except Exception as error:
        raise ArtifactError(f"{artifact} cannot be loaded: {_one_line(error)}") from error
    architecture = next(iter(config.architectures or []), "an unknown architecture")
    if not architecture.endswith("ForSequenceClassification") or config.num_labels < 2:
        raise ArtifactError(
            f"{artifact} has {architecture} with {config.num_labels} labels, "
            "it must be a sequence classifier with two or more"
        )
    return Signature(
        (TensorSpec("text", "BYTES", (-1,)),),
        (TensorSpec("probabilities", "FP32", (-1, config.num_labels)),),
        classes=tuple(str(config.id2label[index]) for index in range(config.num_labels)),
        pads_texts=True,
    )


def _configure() -> None:
    """Set the variables that the libraries read when they are imported."""
    # Threads that spin between batches would take CPU time from the event loop.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a batch is too small for its threads


def _device(name: str) -> "torch.device":
    import torch

    try:
        torch.ones(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        cause = str(error).partition("\n")[0]
        raise ArtifactError(f"the device '{name}' is not available: {cause}") from error
    return torch.device(name)


def _read(artifact: Path) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    _check_shards(artifact)
    try:
        tokenizer = AutoTokenizer.from_pretrained(artifact, **_LOCAL)
        classifier, loading = AutoModelForSequenceClassification.from_pretrained(
            artifact,
            use_safetensors=True,
            disable_mmap=True,  # mapped into memory, the weights would change with the file
            dtype=torch.float32,
            output_loading_info=True,
            **_LOCAL,
        )
    except Exception as error:
        raise ArtifactError(f"{artifact} cannot be loaded: {_one_line(error)}") from error
    # The library fills in missing weights at random, with only a warning.
    if missing := sorted(loading["missing_keys"]):
        raise ArtifactError(f"{artifact} lacks the weights {', '.join(missing)}")
    # Without its files the library makes a tokenizer that knows no words.
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise ArtifactError(f"{artifact} lacks the tokenizer's files")
    if tokenizer.pad_token is None:
        raise ArtifactError(f"{artifact}: the tokenizer has no padding token, a batch needs one")
    return tokenizer, classifier


def _check_shards(artifact: Path) -> None:
    """Check that the weights are in the folder, where the manifest has them all."""
    for index in artifact_files(artifact):
        if not index.name.endswith(".index.json"):
            continue
        try:
            shards = set(json.loads(index.read_bytes())["weight_map"].values())
            outside = sorted(name for name in shards if _is_outside(PurePosixPath(name)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{index} cannot be read: {_one_line(error)}") from error
        if outside:
            raise ArtifactError(f"{index} names '{outside[0]}', which is outside the folder")


def _is_outside(path: PurePosixPath) -> bool:
    return path.is_absolute() or any(part.startswith("..") for part in path.parts)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
