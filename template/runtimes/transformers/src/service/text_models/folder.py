"""Reads a folder of Transformers: its configurations, its tokenizer and its weights.

Nothing is downloaded, and no code from the folder is run.
"""

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from service.core import devices
from service.core.manifest import ArtifactError, artifact_files

_LOCAL: Final[dict[str, Any]] = {"local_files_only": True, "trust_remote_code": False}


def configure() -> None:
    """Set the variables that the libraries read when they are imported."""
    # Threads that spin between batches would take CPU time from the event loop.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a batch is too small for its threads


def read_json(path: Path) -> Any:
    """Read a file in JSON; one that is missing is an empty object.

    Raises:
        ArtifactError: it is not JSON.
    """
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ArtifactError(f"{path} cannot be read: {one_line(error)}") from error


def read_object(path: Path) -> dict[str, Any]:
    """Read a file with an object in JSON; one that is missing is an empty object.

    Raises:
        ArtifactError: it is not an object in JSON.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ArtifactError(f"{path} must be an object in JSON")
    return content


def read_config(folder: Path) -> Any:
    """Read ``config.json``.

    Raises:
        ArtifactError: there is none, or it is of a kind that the library does not know.
    """
    configure()
    from transformers import AutoConfig

    if not (folder / "config.json").is_file():
        raise ArtifactError(
            f"{folder} has no config.json: it must be a folder that save_pretrained has written"
        )
    try:
        return AutoConfig.from_pretrained(folder, **_LOCAL)
    except Exception as error:
        raise ArtifactError(f"{folder} cannot be loaded: {one_line(error)}") from error


def architecture_of(config: Any) -> str:
    """Return the class that was saved, such as BertForSequenceClassification."""
    return str(next(iter(config.architectures or []), "an unknown architecture"))


def read_tokenizer(folder: Path) -> Any:
    """Load the tokenizer.

    Raises:
        ArtifactError: its files are missing, or it cannot pad a batch.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **_LOCAL)
    except Exception as error:
        raise ArtifactError(f"{folder} cannot be loaded: {one_line(error)}") from error
    # Without its files the library makes a tokenizer that knows no words.
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise ArtifactError(f"{folder} lacks the tokenizer's files")
    if tokenizer.pad_token is None:
        raise ArtifactError(f"{folder}: the tokenizer has no padding token, a batch needs one")
    return tokenizer


def read_network(loader: Any, folder: Path, unused: tuple[str, ...] = ()) -> Any:
    """Load a network in FP32. ``loader``: the library's class of its kind.

    ``unused``: beginnings of the names of weights that nothing computes with.

    Raises:
        ArtifactError: it cannot be loaded, or not from weights in safetensors within the folder.
    """
    import torch

    _check_shards(folder)
    try:
        network, loading = loader.from_pretrained(
            folder,
            use_safetensors=True,
            disable_mmap=True,  # mapped into memory, the weights would change with the file
            dtype=torch.float32,
            output_loading_info=True,
            **_LOCAL,
        )
    except Exception as error:
        raise ArtifactError(f"{folder} cannot be loaded: {one_line(error)}") from error
    # The library fills in missing weights at random, with only a warning.
    missing = [name for name in loading["missing_keys"] if not name.startswith(unused or ("\0",))]
    if missing:
        raise ArtifactError(f"{folder} lacks the weights {', '.join(sorted(missing))}")
    return network.eval()


def place(network: Any, device: Any) -> Any:
    """Move a network to a device of PyTorch.

    Raises:
        ArtifactError: some of its weights are elsewhere then.
    """
    placed = network.to(device)
    for name, tensor in (*placed.named_parameters(), *placed.named_buffers()):
        if tensor.device.type != device.type or device.index not in (None, tensor.device.index):
            raise devices.not_used(str(device), f"lacks '{name}', which is on {tensor.device}")
    return placed


def longest_input(tokenizer: Any, config: Any) -> int:
    """Return how many tokens the model can take."""
    positions = getattr(config, "max_position_embeddings", None) or 0
    longest = int(tokenizer.model_max_length)
    return min(longest, positions) if positions > 0 else longest


def check_parameters(parameters: Mapping[str, Any], known: Mapping[str, Collection[Any]]) -> None:
    """Check the parameters of a manifest. ``known``: the values that each may have.

    Raises:
        ArtifactError: a parameter is not known, or has another value.
    """
    for name, value in parameters.items():
        if name not in known:
            taken = ", ".join(known) or "none"
            raise ArtifactError(f"the parameter '{name}' is not known, this model takes {taken}")
        if value not in known[name] or isinstance(value, int) != isinstance(value, bool):
            choices = ", ".join(json.dumps(each) for each in known[name])
            raise ArtifactError(f"the parameter '{name}' must be one of {choices}")


def is_outside(path: PurePosixPath) -> bool:
    """Return whether a path leads out of the folder that it is relative to."""
    return path.is_absolute() or any(part.startswith("..") for part in path.parts)


def one_line(error: Exception) -> str:
    """Return the text of an error in one line."""
    return " ".join(str(error).split())[:300]


def _check_shards(folder: Path) -> None:
    """Check that the weights are in the folder, where the manifest has them all."""
    for index in artifact_files(folder):
        if not index.name.endswith(".index.json"):
            continue
        try:
            shards = set(json.loads(index.read_bytes())["weight_map"].values())
            outside = sorted(name for name in shards if is_outside(PurePosixPath(name)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{index} cannot be read: {one_line(error)}") from error
        if outside:
            raise ArtifactError(f"{index} names '{outside[0]}', which is outside the folder")
