"""Train the example model: whether a sentence is negative or positive, with a tiny BERT.

Writes the folder ``models/sentiment`` and its manifest. Run it from the project:
``python train.py``.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    BatchEncoding,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
)

from service.core import manifest
from service.core.tensors import TensorSpec

MODELS = Path(__file__).parent / "models"

PAD, UNKNOWN, BEGIN, END = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
LABELS = ("negative", "positive")
SUBJECTS = ("film", "book", "food", "hotel", "music", "service", "weather", "journey")
BLAME = ("bad", "poor", "awful", "terrible", "boring", "dreadful", "dull", "disappointing")
PRAISE = ("good", "great", "lovely", "wonderful", "excellent", "delightful", "fun", "perfect")


def sentences() -> list[tuple[str, int]]:
    """Write sentences, each with the index of its label, in random order."""
    written = [
        (sentence, label)
        for label, words in enumerate((BLAME, PRAISE))
        for subject in SUBJECTS
        for word in words
        for sentence in (
            f"The {subject} was {word}.",
            f"What a {word} {subject}!",
            f"I found the {subject} really {word}.",
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
        model_max_length=64,
    )


def make_classifier(vocabulary: int) -> BertForSequenceClassification:
    """Make an untrained classifier for a vocabulary of this size."""
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            id2label=dict(enumerate(LABELS)),
            label2id={label: index for index, label in enumerate(LABELS)},
        )
    )


def fit(classifier: BertForSequenceClassification, tokens: BatchEncoding, labels: Tensor) -> None:
    """Train for ten epochs in batches of 32."""
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=2e-3)
    classifier.train()
    for _ in range(10):
        for rows in torch.split(torch.randperm(len(labels)), 32):
            batch = {name: values[rows] for name, values in tokens.items()}
            loss = classifier(**batch, labels=labels[rows]).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    classifier.train(False)


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    texts, indices = zip(*sentences(), strict=True)
    labels = torch.tensor(indices)
    train, test = slice(80, None), slice(80)

    tokenizer = make_tokenizer(texts[train])
    classifier = make_classifier(len(tokenizer))
    fit(classifier, tokenizer(texts[train], padding=True, return_tensors="pt"), labels[train])
    with torch.inference_mode():
        tokens = tokenizer(texts[test], padding=True, return_tensors="pt")
        predicted = classifier(**tokens).logits.argmax(dim=-1)
    accuracy = (predicted == labels[test]).double().mean().item()
    print(f"accuracy on {len(predicted)} held-out sentences: {accuracy:.3f}")

    artifact = MODELS / "sentiment"
    tokenizer.save_pretrained(artifact)
    classifier.save_pretrained(artifact)

    described = manifest.describe(
        artifact,
        name="sentiment",
        version="1",
        runtime="transformers",
        inputs=(TensorSpec("text", "BYTES", (-1,)),),
        outputs=(TensorSpec("probabilities", "FP32", (-1, 2)),),
    )
    print(f"wrote {artifact} and {described.write(MODELS)}")


if __name__ == "__main__":
    main()
