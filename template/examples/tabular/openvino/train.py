"""Train the example model: iris species from four measurements, as OpenVINO's IR.

Writes ``models/iris.xml``, ``models/iris.bin`` and their manifest. Run it from the project:
``python train.py``.
"""

from pathlib import Path

import numpy as np
import openvino
from openvino import opset13 as ops
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from service.core import manifest
from service.core.tensors import TensorSpec

MODELS = Path(__file__).parent / "models"


def convert(classifier: LogisticRegression) -> openvino.Model:
    """Convert a logistic regression to operations of OpenVINO."""
    measurements = ops.parameter([-1, 4], np.float32)
    weights = classifier.coef_.astype(np.float32)
    bias = classifier.intercept_.astype(np.float32)
    scores = ops.add(ops.matmul(measurements, weights, False, True), bias)
    probabilities = ops.softmax(scores, axis=1)
    measurements.output(0).set_names({"measurements"})
    probabilities.output(0).set_names({"probabilities"})
    return openvino.Model([probabilities], [measurements], "iris")


def main() -> None:
    features, species = load_iris(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        features, species, test_size=0.2, stratify=species, random_state=0
    )
    classifier = LogisticRegression(max_iter=1000).fit(train_x, train_y)
    print(f"accuracy on {len(test_y)} held-out flowers: {classifier.score(test_x, test_y):.3f}")

    MODELS.mkdir(exist_ok=True)
    artifact = MODELS / "iris.xml"
    openvino.save_model(convert(classifier), artifact, compress_to_fp16=False)

    described = manifest.describe(
        artifact,
        name="iris",
        version="1",
        runtime="openvino",
        inputs=(TensorSpec("measurements", "FP32", (-1, 4)),),
        outputs=(TensorSpec("probabilities", "FP32", (-1, 3)),),
    )
    print(f"wrote {artifact} and {described.write(MODELS)}")


if __name__ == "__main__":
    main()
