"""Transformers: a folder with a network, its tokenizer and its safetensors weights.

The folder's own configuration says what it is: a classifier of texts or of tokens, or a model that
makes embeddings. `service.text_models` has a module for each. Nothing is downloaded, and no code
from the folder is run.

The library is imported where it is used, so that importing this module stays cheap.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from service.core import devices
from service.core.manifest import ArtifactError, Manifest
from service.core.tensors import Signature
from service.text_models import (
    embedding,
    folder,
    sentence_folder,
    sequence_classification,
    token_classification,
)
from service.text_models.embedding import Embedding
from service.text_models.sequence_classification import SequenceClassification
from service.text_models.token_classification import TokenClassification

if TYPE_CHECKING:
    import torch

    from service.interfaces import Model

RUNTIME: Final = "transformers"


def load(artifact: Path, manifest: Manifest, *, threads: int, device: str) -> "Model":
    """Load a model onto a device: ``cpu``, ``cuda``, ``cuda:1`` and so on.

    Raises:
        ArtifactError: the folder is not complete, or the device is not available.
    """
    kind = _read(artifact, manifest.parameters)
    import torch

    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:  # may be set once only
        torch.set_num_interop_threads(1)
    return kind.load(manifest, _device(device))


def inspect(artifact: Path, parameters: dict[str, Any]) -> Signature:
    """Read from the folder's configuration what the model takes and gives.

    Raises:
        ArtifactError: the folder has no configuration, or one of a kind that is not known.
    """
    return _read(artifact, parameters).signature


def _read(
    artifact: Path, parameters: dict[str, Any]
) -> SequenceClassification | TokenClassification | Embedding:
    """Find out what a folder is.

    Raises:
        ArtifactError: it is nothing that this runtime can serve.
    """
    folder.configure()
    has_modules = sentence_folder.has_modules(artifact)
    if "pooling" in parameters or (has_modules and not sentence_folder.is_cross_encoder(artifact)):
        return embedding.read(artifact, parameters)
    config = folder.read_config(artifact)
    architecture = folder.architecture_of(config)
    if architecture.endswith(sequence_classification.SUFFIX):
        return sequence_classification.read(artifact, config, parameters)
    if architecture.endswith(token_classification.SUFFIX):
        return token_classification.read(artifact, config, parameters)
    poolings = ", ".join(sentence_folder.POOLINGS)
    raise ArtifactError(
        f"{artifact} has {architecture}, this runtime serves ForSequenceClassification, "
        "ForTokenClassification, and folders of sentence-transformers; for embeddings of its "
        f"states, give --parameter pooling='\"mean\"' as its authors say (one of {poolings}), and "
        "--parameter normalize=true if they are to have the length one"
    )


def _device(name: str) -> "torch.device":
    import torch

    try:
        torch.ones(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        raise devices.unavailable(name, str(error).partition("\n")[0]) from error
    # TF32 would round so much that the rows of a batch differ from the same rows alone.
    torch.backends.cudnn.allow_tf32 = False
    return torch.device(name)
