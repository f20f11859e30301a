"""Makes embeddings of texts: the states of a network, pooled to one vector for each text."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from service.core.errors import Refused
from service.core.manifest import ArtifactError, Manifest
from service.core.tensors import Signature, Tensors, TensorSpec, decode_text
from service.text_models import folder, sentence_folder
from service.text_models.sentence_folder import POOLINGS, Dense, Normalize, Recipe

if TYPE_CHECKING:
    import torch

_Pooling = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]
"""From the states and the mask of a batch to a vector for each row."""
_Step = Callable[["torch.Tensor"], "torch.Tensor"]

_UNUSED: Final = ("pooler.",)
"""Weights of a network's own pooling. Folders without them are as good as others."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """A network, and the steps from its states to an embedding."""

    config: Any
    recipe: Recipe
    parameters: dict[str, Any]

    @property
    def signature(self) -> Signature:
        return Signature(
            (TensorSpec("text", "BYTES", (-1,)),),
            (
                TensorSpec("embedding", "FP32", (-1, self._dimension)),
                TensorSpec("tokens", "INT64", (-1,)),
            ),
            named=True,
            parameters=self.parameters,
            pads_texts=True,
            task="embedding",
        )

    @property
    def _dimension(self) -> int:
        return self.recipe.dimension(self.config.hidden_size)

    def load(self, manifest: Manifest, device: "torch.device") -> "Model":
        """Load it onto a device.

        Raises:
            ArtifactError: the folder is not complete.
        """
        from transformers import AutoModel

        tokenizer = folder.read_tokenizer(self.recipe.network)
        tokenizer.padding_side = "right"  # positions are counted from the first token
        if self.recipe.lower_case and tokenizer.tokenize("Aa") != tokenizer.tokenize("aa"):
            raise ArtifactError(
                f"{self.recipe.network} has 'do_lower_case', which its tokenizer does not do: save "
                "the tokenizer with a normalizer that does"
            )
        network = folder.read_network(AutoModel, self.recipe.network, _UNUSED)
        network.config.use_cache = False
        steps = [_load_step(step, device) for step in self.recipe.steps]
        return Model(self, tokenizer, folder.place(network, device), steps, device)


class Model:
    """A tokenizer, a network on its device, and what follows them."""

    def __init__(
        self,
        kind: Embedding,
        tokenizer: Any,
        network: Any,
        steps: list[_Step],
        device: "torch.device",
    ) -> None:
        self.signature = kind.signature
        self._prompt = kind.recipe.prompt
        self._longest = kind.recipe.max_length or folder.longest_input(tokenizer, kind.config)
        self._poolings = [_POOLINGS[name] for name in kind.recipe.poolings]
        self._tokenizer = tokenizer
        self._network = network
        self._steps = steps
        self._device = device

    def run(self, batch: Tensors) -> Tensors:
        """Embed texts in UTF-8. Texts that are too long for the model are truncated."""
        import torch

        texts = decode_text("text", batch["text"]).tolist()
        tokens = self._tokenizer(
            [self._prompt + text for text in texts] if self._prompt else texts,
            padding=True,
            truncation=True,
            max_length=self._longest,
            return_attention_mask=True,
            return_tensors="pt",
        )
        mask = tokens["attention_mask"]
        counts = mask.sum(dim=1).numpy()
        if not counts.all():
            raise Refused("has no tokens", field="text", instance=int(np.argmin(counts)))
        with torch.inference_mode():
            tokens = tokens.to(self._device)
            states = self._network(**tokens).last_hidden_state.float()
            mask = tokens["attention_mask"]
            vectors = torch.cat([pool(states, mask) for pool in self._poolings], dim=-1)
            for step in self._steps:
                vectors = step(vectors)
        return {"embedding": vectors.cpu().numpy(), "tokens": counts.astype(np.int64)}


def read(artifact: Path, parameters: dict[str, Any]) -> Embedding:
    """Describe how a folder makes embeddings.

    ``parameters``: ``pooling`` and ``normalize`` for a folder that does not say so itself.

    Raises:
        ArtifactError: it cannot be read, or needs what this runtime cannot do.
    """
    if sentence_folder.has_modules(artifact):
        folder.check_parameters(parameters, {})
        recipe = sentence_folder.read(artifact)
    else:
        folder.check_parameters(parameters, {"pooling": POOLINGS, "normalize": (False, True)})
        steps = (Normalize(),) if parameters.get("normalize") else ()
        recipe = Recipe(artifact, (parameters["pooling"],), steps)
    config = folder.read_config(recipe.network)
    if config.is_encoder_decoder or not isinstance(getattr(config, "hidden_size", None), int):
        raise ArtifactError(
            f"{artifact} has {folder.architecture_of(config)}, which gives no states of one size "
            "for each token: serve it in code of your own with the runtime 'python'"
        )
    _check_sizes(recipe, config.hidden_size)
    return Embedding(config, recipe, parameters)


def _check_sizes(recipe: Recipe, hidden_size: int) -> None:
    size = replace(recipe, steps=()).dimension(hidden_size)
    for step in recipe.steps:
        if isinstance(step, Dense):
            if step.inputs != size:
                raise ArtifactError(
                    f"{step.folder} takes {step.inputs} values, what is before it gives {size}"
                )
            size = step.outputs


def _load_step(step: Dense | Normalize, device: "torch.device") -> _Step:
    import torch

    if isinstance(step, Normalize):
        return lambda vectors: torch.nn.functional.normalize(vectors, p=2, dim=-1)
    from safetensors.torch import load

    path = step.folder / "model.safetensors"
    if not path.is_file():
        raise ArtifactError(f"{path} is missing: save the model again, with safetensors")
    linear = torch.nn.Linear(step.inputs, step.outputs, bias=step.bias)
    layer = torch.nn.ModuleDict({"linear": linear})
    try:
        layer.load_state_dict(load(path.read_bytes()))
    except Exception as error:
        raise ArtifactError(f"{path} cannot be loaded: {folder.one_line(error)}") from error
    activation = getattr(torch.nn, step.activation)()
    layers = torch.nn.Sequential(linear.float(), activation).eval()
    folder.place(layers, device)
    return layers


def _cls(states: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
    return _at(states, mask.int().argmax(dim=1))


def _max(states: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
    return states.masked_fill(mask.unsqueeze(-1) == 0, float("-inf")).amax(dim=1)


def _mean(states: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
    return _sum(states, mask) / mask.sum(dim=1, keepdim=True)


def _mean_sqrt(states: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
    return _sum(states, mask) / mask.sum(dim=1, keepdim=True).sqrt()


def _weighted_mean(states: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
    """Weigh each token by its place among those of its text."""
    weights = mask.cumsum(dim=1) * mask
    return _sum(states, weights) / weights.sum(dim=1, keepdim=True)


def _last(states: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
    return _at(states, mask.shape[1] - 1 - mask.int().flip(1).argmax(dim=1))


def _sum(states: "torch.Tensor", weights: "torch.Tensor") -> "torch.Tensor":
    return (states * weights.unsqueeze(-1)).sum(dim=1)


def _at(states: "torch.Tensor", places: "torch.Tensor") -> "torch.Tensor":
    import torch

    return states[torch.arange(len(states), device=states.device), places]


_POOLINGS: Final[dict[str, _Pooling]] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}
