"""Train the example model: iris species from four measurements, as an ONNX graph.

Writes ``models/iris.onnx`` and its manifest. Run it from the project: ``python train.py``.
"""

from pathlib import Path

from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from service.core import manifest
from service.core.tensors import TensorSpec

MODELS = Path(__file__).parent / "models"


def main() -> None:
    features, species = load_iris(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        features, species, test_size=0.2, stratify=species, random_state=0
    )
    classifier = LogisticRegression(max_iter=1000).fit(train_x, train_y)
    print(f"accuracy on {len(test_y)} held-out flowers: {classifier.score(test_x, test_y):.3f}")

    graph = to_onnx(
        classifier,
        initial_types=[("measurements", FloatTensorType([None, 4]))],
        options={"zipmap": False},
        black_op={"LinearClassifier"},  # which no GPU has
    )
    # The species follows from the probabilities.
    graph = select_model_inputs_outputs(graph, outputs=["probabilities"])
    MODELS.mkdir(exist_ok=True)
    artifact = MODELS / "iris.onnx"
    artifact.write_bytes(graph.SerializeToString())

    described = manifest.describe(
        artifact,
        name="iris",
        version="1",
        runtime="onnxruntime",
        inputs=(TensorSpec("measurements", "FP32", (-1, 4)),),
        outputs=(TensorSpec("probabilities", "FP32", (-1, 3)),),
    )
    print(f"wrote {artifact} and {described.write(MODELS)}")


if __name__ == "__main__":
    main()
