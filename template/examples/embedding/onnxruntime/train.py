"""Train the example model: vectors of sentences, as an ONNX graph with a tokenizer beside it.

Words that occur in the same sentences get similar vectors (random indexing), and the vector of a
sentence is the mean of those of its words. Writes ``models/sentences.onnx``,
``models/tokenizer.json`` and the manifest. Run it from the project: ``python train.py``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from service.core import manifest
from service.core.tensors import TensorSpec

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

MODELS = Path(__file__).parent / "models"

DIMENSIONS = 16
PAD, UNKNOWN = SPECIAL = ("[PAD]", "[UNK]")
SUBJECTS = {
    "weather": ("rain wind snow fog storm", "heavy cold wet dark grey"),
    "food": ("bread soup cheese cake salad", "fresh sweet salty spicy tasty"),
    "music": ("song concert choir opera melody", "loud quiet sad rhythmic famous"),
    "travel": ("train flight ticket hotel ferry", "late cheap crowded direct full"),
}
"""Nouns and adjectives of each."""


def sentences() -> list[tuple[str, str]]:
    """Write sentences, each with its subject, in random order."""
    written = [
        (sentence, subject)
        for subject, (nouns, adjectives) in SUBJECTS.items()
        for noun in nouns.split()
        for adjective in adjectives.split()
        for sentence in (
            f"The {noun} is {adjective} today.",
            f"What a {adjective} {noun}!",
            f"We remember the {adjective} {noun}.",
        )
    ]
    order = np.random.default_rng(0).permutation(len(written))
    return [written[index] for index in order]


def make_tokenizer(texts: Sequence[str]) -> Tokenizer:
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
    tokenizer.enable_truncation(64)
    # Texts share a batch if they are padded to the same length.
    tokenizer.enable_padding(pad_token=PAD, pad_id=0, pad_to_multiple_of=16)
    return tokenizer


def tokenize(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[Integers, Integers]:
    """Return the ids of tokens, and the mask that leaves padding out, a row for each text."""
    encodings = tokenizer.encode_batch(texts)
    ids = np.array([each.ids for each in encodings], dtype=np.int64)
    return ids, np.array([each.attention_mask for each in encodings], dtype=np.int64)


def fit(ids: Integers, mask: Integers, size: int) -> Floats:
    """Return a vector for each token of a vocabulary, a short one for those in all sentences."""
    occurs = np.zeros((len(ids), size))
    occurs[np.arange(len(ids))[:, None], ids] = mask
    together = occurs.T @ occurs
    counts = together.diagonal().clip(min=1)
    by_chance = np.outer(counts, counts) / len(ids)
    information = np.log((together / by_chance).clip(min=1))  # pointwise, mutual, positive
    random = np.random.default_rng(0).choice((-1.0, 1.0), (size, DIMENSIONS))
    table = information @ information @ random
    table[SPECIAL.index(UNKNOWN)] = table.mean(axis=0)
    return np.asarray(table, dtype=np.float32)


def embed(table: Floats, ids: Integers, mask: Integers) -> Floats:
    """Do what the graph does."""
    sums = (table[ids] * mask[:, :, None]).sum(axis=1)
    return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True), dtype=np.float32)


def make_graph(table: Floats) -> ModelProto:
    """Make the graph: look the tokens up, add those up that are not padding, normalise."""
    constants: dict[str, npt.NDArray[Any]] = {
        "table": table,
        "tokens_axis": np.array([1], dtype=np.int64),
        "last_axis": np.array([-1], dtype=np.int64),
        "smallest": np.array(1e-9, dtype=np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Unsqueeze", ["attention_mask", "last_axis"], ["column"]),
        helper.make_node("Cast", ["column"], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["words", "weights"], ["counted"]),
        helper.make_node("ReduceSum", ["counted", "tokens_axis"], ["sum"], keepdims=0),
        helper.make_node("ReduceL2", ["sum", "last_axis"], ["norm"], keepdims=1),
        helper.make_node("Max", ["norm", "smallest"], ["length"]),
        helper.make_node("Div", ["sum", "length"], ["embedding"]),
        helper.make_node("ReduceSum", ["attention_mask", "last_axis"], ["tokens"], keepdims=0),
    ]
    rows = ["batch", "length_of_texts"]
    graph = helper.make_graph(
        nodes,
        "sentences",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, rows),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, rows),
        ],
        [
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIMENSIONS]),
            helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch"]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, ir_version=10, opset_imports=opsets)


def main() -> None:
    texts, subjects = zip(*sentences(), strict=True)
    train, test = slice(60, None), slice(60)
    tokenizer = make_tokenizer(texts[train])
    table = fit(*tokenize(tokenizer, texts[train]), tokenizer.get_vocab_size())
    vectors = embed(table, *tokenize(tokenizer, texts))
    nearest = (vectors[test] @ vectors[train].T).argmax(axis=1)
    right = np.mean([subjects[train][at] == subjects[row] for row, at in enumerate(nearest)])
    print(f"{right:.3f} of {len(nearest)} held-out sentences are nearest to one on their subject")

    MODELS.mkdir(exist_ok=True)
    tokenizer.save(str(MODELS / "tokenizer.json"))
    artifact = MODELS / "sentences.onnx"
    artifact.write_bytes(make_graph(table).SerializeToString())

    described = manifest.describe(
        artifact,
        name="sentences",
        version="1",
        runtime="onnxruntime",
        inputs=(
            TensorSpec("input_ids", "INT64", (-1, -1)),
            TensorSpec("attention_mask", "INT64", (-1, -1)),
        ),
        outputs=(
            TensorSpec("embedding", "FP32", (-1, DIMENSIONS)),
            TensorSpec("tokens", "INT64", (-1,)),
        ),
        task="embedding",
    )
    print(f"wrote {artifact} and {described.write(MODELS)}")


if __name__ == "__main__":
    main()
