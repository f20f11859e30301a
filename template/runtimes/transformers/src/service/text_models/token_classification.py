"""Finds entities in texts: names, places, parts of speech, personal data.

Texts have different numbers of entities, which a tensor cannot have: the answer to a text is a list
in JSON. An entity has its ``label``, its ``score``, its ``start`` and its ``end`` in characters of
the text, and the ``text`` between them.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from service.core.manifest import ArtifactError, Manifest
from service.core.tensors import Signature, Tensors, TensorSpec, decode_text, encode_text
from service.text_models import folder

if TYPE_CHECKING:
    import torch

SUFFIX: Final = "ForTokenClassification"

_STRATEGIES: Final = ("simple", "none", "first", "average", "max")
_DIGITS: Final = 3
"""Scores differ with the size of a batch in later ones; an answer must not."""


@dataclass(frozen=True, slots=True)
class TokenClassification:
    """A classifier of tokens.

    ``aggregation``: how tokens become entities, by the names of the pipeline of Transformers.
    """

    artifact: Path
    config: Any
    aggregation: str

    @property
    def signature(self) -> Signature:
        return Signature(
            (TensorSpec("text", "BYTES", (-1,)),),
            (TensorSpec("entities", "BYTES", (-1,)),),
            json_outputs=("entities",),
            pads_texts=True,
        )

    def load(self, manifest: Manifest, device: "torch.device") -> "Model":
        """Load it onto a device.

        Raises:
            ArtifactError: the folder is not complete, or its tokenizer does not know where a token
                stands in the text.
        """
        from transformers import AutoModelForTokenClassification

        tokenizer = folder.read_tokenizer(self.artifact)
        if not tokenizer.is_fast:
            raise ArtifactError(
                f"{self.artifact} has a tokenizer without positions: save it with a tokenizer.json"
            )
        network = folder.read_network(AutoModelForTokenClassification, self.artifact)
        return Model(self, tokenizer, folder.place(network, device), manifest, device)


class Model:
    """A tokenizer, and a classifier of tokens on its device."""

    def __init__(
        self,
        kind: TokenClassification,
        tokenizer: Any,
        network: Any,
        manifest: Manifest,
        device: "torch.device",
    ) -> None:
        from transformers.pipelines.token_classification import (
            AggregationStrategy,
            TokenClassificationPipeline,
        )

        self.signature = kind.signature
        self._tokenizer = tokenizer
        self._network = network
        self._device = device
        self._input = manifest.inputs[0].name
        self._output = manifest.outputs[0].name
        self._longest = folder.longest_input(tokenizer, kind.config)
        pipeline: Any = TokenClassificationPipeline
        self._pipeline = pipeline(model=network, tokenizer=tokenizer, device=device)
        self._aggregation = AggregationStrategy(kind.aggregation)

    def run(self, batch: Tensors) -> Tensors:
        """Find entities in texts in UTF-8. What is too long for the model is cut off."""
        import torch

        texts = decode_text(self._input, batch[self._input]).tolist()
        tokens = self._tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=self._longest,
            return_special_tokens_mask=True,
            return_offsets_mapping=True,
            return_tensors="pt",
        )
        special = tokens.pop("special_tokens_mask")
        offsets = tokens.pop("offset_mapping")
        with torch.inference_mode():
            logits = self._network(**tokens.to(self._device)).logits.float().cpu()
        found = [
            self._entities(
                text,
                {
                    "sentence": text,
                    "logits": logits[row : row + 1],
                    "input_ids": tokens["input_ids"][row : row + 1].cpu(),
                    "offset_mapping": offsets[row : row + 1],
                    "special_tokens_mask": special[row : row + 1],
                },
            )
            for row, text in enumerate(texts)
        ]
        written = [json.dumps(entities, ensure_ascii=False) for entities in found]
        return {self._output: encode_text(np.array(written, dtype=object))}

    def _entities(self, text: str, outputs: dict[str, Any]) -> list[dict[str, Any]]:
        entities = self._pipeline.postprocess([outputs], self._aggregation)
        return [
            {
                "label": entity.get("entity_group") or entity["entity"],
                "score": round(float(entity["score"]), _DIGITS),
                "start": int(entity["start"]),
                "end": int(entity["end"]),
                "text": text[entity["start"] : entity["end"]],
            }
            for entity in entities
        ]


def read(artifact: Path, config: Any, parameters: dict[str, Any]) -> TokenClassification:
    """Describe the classifier in a folder.

    Raises:
        ArtifactError: a parameter is not known.
    """
    folder.check_parameters(parameters, {"aggregation": _STRATEGIES})
    return TokenClassification(artifact, config, parameters.get("aggregation", _STRATEGIES[0]))
