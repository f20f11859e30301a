"""Train the example model: vectors of sentences, with a tiny BERT.

Writes the folder ``models/sentences``, as sentence-transformers would, and its manifest. Run it
from the project: ``python train.py``.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import BatchEncoding, BertConfig, BertModel, PreTrainedTokenizerFast

from service.core import manifest
from service.core.tensors import TensorSpec

MODELS = Path(__file__).parent / "models"

DIMENSIONS = 16
LONGEST = 64
PAD, UNKNOWN, BEGIN, END = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
SUBJECTS = {
    "weather": ("rain wind snow fog storm", "heavy cold wet dark grey"),
    "food": ("bread soup cheese cake salad", "fresh sweet salty spicy tasty"),
    "music": ("song concert choir opera melody", "loud quiet sad rhythmic famous"),
    "travel": ("train flight ticket hotel ferry", "late cheap crowded direct full"),
}
"""Nouns and adjectives of each."""
SENTENCE_TRANSFORMERS = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {
            "idx": 1,
            "name": "1",
            "path": "1_Pooling",
            "type": "sentence_transformers.models.Pooling",
        },
        {
            "idx": 2,
            "name": "2",
            "path": "2_Normalize",
            "type": "sentence_transformers.models.Normalize",
        },
    ],
    "sentence_bert_config.json": {"max_seq_length": LONGEST, "do_lower_case": False},
    "1_Pooling/config.json": {
        "word_embedding_dimension": DIMENSIONS,
        "pooling_mode_mean_tokens": True,
    },
}
"""What sentence-transformers keeps beside the network: the mean of its states, normalised."""


def sentences() -> list[tuple[str, int]]:
    """Write sentences, each with the index of its subject, in random order."""
    written = [
        (sentence, subject)
        for subject, (nouns, adjectives) in enumerate(SUBJECTS.values())
        for noun in nouns.split()
        for adjective in adjectives.split()
        for sentence in (
            f"The {noun} is {adjective} today.",
            f"What a {adjective} {noun}!",
            f"We remember the {adjective} {noun}.",
        )
    ]
    return [written[index] for index in torch.randperm(len(written)).tolist()]


def make_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Make a tokenizer whose vocabulary is the words of these texts."""
    normalizer = normalizers.BertNormalizer()
    splitter = pre_tokenizers.BertPreTokenizer()
    words = {
        word
        for text in texts
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    }
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, UNKNOWN))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A {END}",
        special_tokens=[(token, vocabulary[token]) for token in (BEGIN, END)],
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        cls_token=BEGIN,
        sep_token=END,
        model_max_length=LONGEST,
    )


def make_network(vocabulary: int) -> BertModel:
    """Make an untrained network for a vocabulary of this size."""
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=DIMENSIONS,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=LONGEST,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertModel(config, add_pooling_layer=False)


def make_targets() -> Tensor:
    """Make a vector for each subject, at right angles to those of the others."""
    places = torch.arange(DIMENSIONS)
    signs = [1 - 2 * (places // 2**subject % 2) for subject in range(len(SUBJECTS))]
    return torch.stack(signs) / math.sqrt(DIMENSIONS)


def embed(network: BertModel, tokens: BatchEncoding) -> Tensor:
    """Return the means of the states, normalised."""
    mask = tokens["attention_mask"].unsqueeze(-1)
    states = network(**tokens).last_hidden_state * mask
    vectors: Tensor = torch.nn.functional.normalize(states.sum(dim=1) / mask.sum(dim=1), dim=-1)
    return vectors


def fit(network: BertModel, tokens: BatchEncoding, targets: Tensor) -> None:
    """Train for 30 epochs in batches of 32: each vector is to point where its target does."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-3)
    network.train()
    for _ in range(30):
        for rows in torch.split(torch.randperm(len(targets)), 32):
            batch = BatchEncoding({name: values[rows] for name, values in tokens.items()})
            loss = 1 - (embed(network, batch) * targets[rows]).sum(dim=-1).mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    network.train(False)


def save(network: BertModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a folder that sentence-transformers can load, too."""
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for name, content in SENTENCE_TRANSFORMERS.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    texts, indices = zip(*sentences(), strict=True)
    subjects = torch.tensor(indices)
    train, test = slice(60, None), slice(60)

    tokenizer = make_tokenizer(texts[train])
    network = make_network(len(tokenizer))
    targets = make_targets()[subjects[train]]
    fit(network, tokenizer(texts[train], padding=True, return_tensors="pt"), targets)
    with torch.inference_mode():
        vectors = embed(network, tokenizer(texts, padding=True, return_tensors="pt"))
    nearest = (vectors[test] @ vectors[train].T).argmax(dim=-1)
    right = (subjects[train][nearest] == subjects[test]).double().mean().item()
    print(f"{right:.3f} of {len(nearest)} held-out sentences are nearest to one on their subject")

    artifact = MODELS / "sentences"
    save(network, tokenizer, artifact)

    described = manifest.describe(
        artifact,
        name="sentences",
        version="1",
        runtime="transformers",
        inputs=(TensorSpec("text", "BYTES", (-1,)),),
        outputs=(
            TensorSpec("embedding", "FP32", (-1, DIMENSIONS)),
            TensorSpec("tokens", "INT64", (-1,)),
        ),
        task="embedding",
    )
    print(f"wrote {artifact} and {described.write(MODELS)}")


if __name__ == "__main__":
    main()
