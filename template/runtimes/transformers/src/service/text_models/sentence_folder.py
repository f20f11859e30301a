"""Reads the folder of a model that sentence-transformers has saved.

``modules.json`` lists the steps from a text to its embedding: a network, a pooling, and after them
dense layers and a normalisation. Each has a folder with its configuration.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from service.core.manifest import ArtifactError
from service.text_models import folder

MODULES: Final = "modules.json"
SETTINGS: Final = "config_sentence_transformers.json"
POOLINGS: Final = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""In the order in which older folders join them."""

ACTIVATIONS: Final = {
    "torch.nn.modules.activation.Tanh": "Tanh",
    "torch.nn.modules.activation.ReLU": "ReLU",
    "torch.nn.modules.activation.GELU": "GELU",
    "torch.nn.modules.activation.SiLU": "SiLU",
    "torch.nn.modules.activation.Sigmoid": "Sigmoid",
    "torch.nn.modules.linear.Identity": "Identity",
}
"""Classes of ``torch.nn``, by the names in the configuration of a dense layer."""

_NETWORK_CONFIGS: Final = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_OLDER_POOLINGS: Final = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
_PACKAGE: Final = "sentence_transformers."
_VECTOR: Final = "sentence_embedding"
_REMEDY: Final = (
    "serve it in code of your own with the runtime 'python', or export it to ONNX with its pooling"
)


@dataclass(frozen=True, slots=True)
class Dense:
    """A dense layer: its folder, its size, and the class of its activation in ``torch.nn``."""

    folder: Path
    inputs: int
    outputs: int
    bias: bool
    activation: str


@dataclass(frozen=True, slots=True)
class Normalize:
    """Scales an embedding to the length one."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """The steps from a text to its embedding.

    ``network``: the folder of the network. ``poolings``: are joined in this order. ``steps``: what
    follows them. ``prompt``: stands before each text. ``max_length``: tokens of a text that count;
    None for as many as the network can take. ``lower_case``: whether texts become lower case.
    """

    network: Path
    poolings: tuple[str, ...]
    steps: tuple[Dense | Normalize, ...]
    prompt: str = ""
    max_length: int | None = None
    lower_case: bool = False

    def dimension(self, hidden_size: int) -> int:
        """Return the length of an embedding. ``hidden_size``: that of the network."""
        dense = [step.outputs for step in self.steps if isinstance(step, Dense)]
        return dense[-1] if dense else hidden_size * len(self.poolings)


def has_modules(artifact: Path) -> bool:
    """Return whether sentence-transformers has saved a folder."""
    return (artifact / MODULES).is_file()


def is_cross_encoder(artifact: Path) -> bool:
    """Return whether a folder has a cross-encoder: a classifier, and no module besides."""
    settings = folder.read_object(artifact / SETTINGS)
    if settings.get("model_type") != "CrossEncoder":
        return False
    modules = _modules(artifact)
    if [kind for kind, _ in modules] != ["Transformer"] or modules[0][1] != artifact:
        raise ArtifactError(f"{artifact} is a cross-encoder of several modules: {_REMEDY}")
    config = _network_config(artifact)
    _check_network(artifact, config, task="sequence-classification", output="logits")
    return True


def longest_input(artifact: Path, tokenizer: Any, config: Any) -> int:
    """Return how many tokens of a text count, as the folder says or the network can take."""
    given = _network_config(artifact).get("max_seq_length")
    return given if isinstance(given, int) else folder.longest_input(tokenizer, config)


def read(artifact: Path) -> Recipe:
    """Read how a folder makes embeddings.

    Raises:
        ArtifactError: it cannot be read, or needs what this runtime cannot do.
    """
    modules = _modules(artifact)
    kinds = [kind for kind, _ in modules]
    if kinds[:2] != ["Transformer", "Pooling"]:
        raise ArtifactError(
            f"{artifact / MODULES} begins with {' and '.join(kinds[:2]) or 'nothing'}, it must "
            f"begin with a Transformer and a Pooling: {_REMEDY}"
        )
    network, pooling = modules[0][1], modules[1][1]
    config = _network_config(network)
    _check_network(network, config, task="feature-extraction", output="last_hidden_state")
    pooling_config = folder.read_object(pooling / "config.json")
    prompt = _prompt(artifact)
    if prompt and pooling_config.get("include_prompt") is False:
        raise ArtifactError(f"{pooling} leaves the tokens of the prompt out: {_REMEDY}")
    max_length = config.get("max_seq_length")
    return Recipe(
        network,
        _poolings(pooling, pooling_config),
        tuple(_STEPS[kind](path) for kind, path in modules[2:]),
        prompt,
        max_length if isinstance(max_length, int) else None,
        config.get("do_lower_case") is True,
    )


def _modules(artifact: Path) -> list[tuple[str, Path]]:
    """Return the kind of each module, and its folder."""
    listed = folder.read_json(artifact / MODULES)
    found = []
    try:
        for each in sorted(listed, key=lambda module: module["idx"]):
            kind, path = str(each["type"]), PurePosixPath(each["path"])
            if folder.is_outside(path):
                raise ArtifactError(f"{artifact / MODULES} names '{path}', outside the folder")
            found.append((kind, artifact / path))
    except (KeyError, TypeError) as error:
        raise ArtifactError(
            f"{artifact / MODULES} cannot be read: {folder.one_line(error)}"
        ) from error
    for place, (kind, _) in enumerate(found):
        name = kind.rpartition(".")[2]
        allowed = ("Transformer", "Pooling") if place < 2 else tuple(_STEPS)
        if not kind.startswith(_PACKAGE) or name not in allowed:
            raise ArtifactError(
                f"{artifact / MODULES} has the module {kind}, this runtime knows Transformer, "
                f"Pooling, Dense and Normalize, in this order: {_REMEDY}"
            )
    return [(kind.rpartition(".")[2], path) for kind, path in found]


def _network_config(network: Path) -> dict[str, Any]:
    """Return how the library uses a network, empty if its folder does not say."""
    for name in _NETWORK_CONFIGS:
        if config := folder.read_object(network / name):
            return config
    return {}


def _check_network(network: Path, config: Mapping[str, Any], *, task: str, output: str) -> None:
    """Check that a network only takes texts, and that nothing changes how it is loaded.

    Raises:
        ArtifactError: it takes something else, or has options of its own.
    """
    known = ("max_seq_length", "do_lower_case", "module_output_name")
    text = {"method": "forward", "method_output_name": output}
    for name, value in config.items():
        right = name in known or not value
        right = right or (name == "transformer_task" and value == task)
        right = right or (
            name == "modality_config"
            and isinstance(value, dict)
            and value.get("text") == text
            and "message" not in value
        )
        if not right:
            raise ArtifactError(
                f"{network} has the option '{name}' of sentence-transformers with a value that "
                f"this runtime cannot follow: {_REMEDY}"
            )


def _poolings(path: Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    mode = config.get("pooling_mode")
    if mode is None:
        older = set(_OLDER_POOLINGS.values())
        known = [name for name, key in _OLDER_POOLINGS.items() if config.get(key) is True]
        others = [key for key in config if key.startswith("pooling_mode_") and key not in older]
        mode = [*known, *(key for key in others if config[key])] or ["mean"]
    modes = tuple(mode) if isinstance(mode, list) else (mode,)
    for each in modes:
        if each not in POOLINGS:
            raise ArtifactError(
                f"{path} has the pooling '{each}', this runtime knows {', '.join(POOLINGS)}: "
                f"{_REMEDY}"
            )
    return modes


def _prompt(artifact: Path) -> str:
    """Return what stands before each text unless its caller chooses another prompt."""
    settings = folder.read_object(artifact / SETTINGS)
    name = settings.get("default_prompt_name")
    if name is None:
        return ""
    try:
        return str(settings["prompts"][name])
    except (KeyError, TypeError):
        raise ArtifactError(f"{artifact / SETTINGS} has no prompt '{name}'") from None


def _dense(path: Path) -> Dense:
    config = folder.read_object(path / "config.json")
    _check_names(path, config)
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    if activation not in ACTIVATIONS or config.get("use_residual"):
        what = "a residual" if config.get("use_residual") else f"the activation {activation}"
        raise ArtifactError(f"{path} has {what}, which this runtime does not know: {_REMEDY}")
    try:
        inputs, outputs = int(config["in_features"]), int(config["out_features"])
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} lacks its sizes: {folder.one_line(error)}") from error
    return Dense(path, inputs, outputs, config.get("bias") is not False, ACTIVATIONS[activation])


def _normalize(path: Path) -> Normalize:
    _check_names(path, folder.read_object(path / "config.json"))  # older folders are empty
    return Normalize()


def _check_names(path: Path, config: Mapping[str, Any]) -> None:
    for name in ("module_input_name", "module_output_name"):
        if config.get(name) not in (None, _VECTOR):
            raise ArtifactError(f"{path} does not work on embeddings of texts: {_REMEDY}")


_STEPS: Final[dict[str, Callable[[Path], Dense | Normalize]]] = {
    "Dense": _dense,
    "Normalize": _normalize,
}
