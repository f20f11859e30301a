"""Classifies texts, or pairs of texts: sentiment, topics, regression, reranking."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from service.core.manifest import ArtifactError, Manifest
from service.core.tensors import Signature, Tensors, TensorSpec, decode_text
from service.text_models import folder, sentence_folder

if TYPE_CHECKING:
    import torch

SUFFIX: Final = "ForSequenceClassification"

_KNOWN: Final = {"pairs": (False, True), "activation": ("none", "sigmoid", "softmax")}
_SAVED_ACTIVATIONS: Final = {
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.modules.linear.Identity": "none",
}
"""Those that sentence-transformers writes into the folder of a cross-encoder."""


@dataclass(frozen=True, slots=True)
class SequenceClassification:
    """A classifier. ``activation``: what makes its answers of the logits.

    ``pairs``: whether it takes two texts, as rerankers and other cross-encoders do.
    """

    artifact: Path
    config: Any
    activation: str
    pairs: bool

    @property
    def signature(self) -> Signature:
        inputs = [TensorSpec("text", "BYTES", (-1,))]
        if self.pairs:
            inputs.append(TensorSpec("text_pair", "BYTES", (-1,)))
        labels = self.config.num_labels
        classes: tuple[str, ...] = ()
        if labels == 1:
            output = TensorSpec("score", "FP32", (-1,))
        else:
            name = "scores" if self.activation == "none" else "probabilities"
            output = TensorSpec(name, "FP32", (-1, labels))
            if self.config.problem_type != "regression":
                classes = tuple(str(self.config.id2label[index]) for index in range(labels))
        return Signature(
            tuple(inputs),
            (output,),
            classes=classes,
            parameters={"pairs": True} if self.pairs else {},
            pads_texts=True,
        )

    def load(self, manifest: Manifest, device: "torch.device") -> "Model":
        """Load it onto a device.

        Raises:
            ArtifactError: the folder is not complete.
        """
        from transformers import AutoModelForSequenceClassification

        tokenizer = folder.read_tokenizer(self.artifact)
        network = folder.read_network(AutoModelForSequenceClassification, self.artifact)
        return Model(self, tokenizer, folder.place(network, device), manifest, device)


class Model:
    """A tokenizer, and a classifier on its device."""

    def __init__(
        self,
        kind: SequenceClassification,
        tokenizer: Any,
        network: Any,
        manifest: Manifest,
        device: "torch.device",
    ) -> None:
        self.signature = kind.signature
        self._activation = kind.activation
        self._tokenizer = tokenizer
        self._network = network
        self._device = device
        self._inputs = [spec.name for spec in manifest.inputs]
        self._output = manifest.output_specs()[0]
        self._longest = sentence_folder.longest_input(kind.artifact, tokenizer, kind.config)

    def run(self, batch: Tensors) -> Tensors:
        """Classify texts in UTF-8. Texts that are too long for the model are truncated."""
        import torch

        texts = [decode_text(name, batch[name]).tolist() for name in self._inputs]
        tokens = self._tokenizer(
            *texts, padding=True, truncation=True, max_length=self._longest, return_tensors="pt"
        )
        with torch.inference_mode():
            logits = self._network(**tokens.to(self._device)).logits.float()
            if self._activation == "softmax":
                logits = logits.softmax(dim=-1)
            elif self._activation == "sigmoid":
                logits = logits.sigmoid()
        array = logits.cpu().numpy()
        if len(self._output.shape) == 1:
            array = array[:, 0]
        return {self._output.name: array.astype(self._output.dtype, copy=False)}


def read(artifact: Path, config: Any, parameters: dict[str, Any]) -> SequenceClassification:
    """Describe the classifier in a folder.

    Raises:
        ArtifactError: it has no labels, or an activation that is not known.
    """
    folder.check_parameters(parameters, _KNOWN)
    if config.num_labels < 1:
        raise ArtifactError(f"{artifact} has {folder.architecture_of(config)} without labels")
    saved = _saved_activation(artifact, config)
    pairs = parameters.get("pairs", saved is not None)
    activation = parameters.get("activation")
    if activation is None and saved is not None:
        default = "sigmoid" if config.num_labels == 1 else "none"
        activation = _SAVED_ACTIVATIONS.get(saved) if saved else default
    elif activation is None:
        activation = _activation(config)
    if activation is None:
        raise ArtifactError(
            f"{artifact} asks for the activation '{saved}', which is not known: choose one "
            "with --parameter activation='\"none\"' (or sigmoid, softmax)"
        )
    return SequenceClassification(artifact, config, activation, pairs)


def _saved_activation(artifact: Path, config: Any) -> str | None:
    """Return the activation of a cross-encoder of sentence-transformers; None if it is not one.

    It is empty where the folder leaves the activation to the library.
    """
    saved = folder.read_object(artifact / sentence_folder.SETTINGS)
    if saved.get("model_type") == "CrossEncoder":
        return str(saved.get("activation_fn") or "")
    older = getattr(config, "sentence_transformers", None)
    if isinstance(older, dict):
        return str(older.get("activation_fn") or "")
    oldest = getattr(config, "sbert_ce_default_activation_function", None)
    return str(oldest) if oldest else None


def _activation(config: Any) -> str:
    """Return what the pipeline of Transformers takes for a classifier of this kind."""
    if config.problem_type == "regression":
        return "none"
    if config.problem_type == "multi_label_classification" or config.num_labels == 1:
        return "sigmoid"
    return "softmax"
