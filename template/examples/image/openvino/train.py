"""Train the example model: the digit in a picture of eight by eight pixels, as OpenVINO's IR.

Writes ``models/digits.xml``, ``models/digits.bin`` and their manifest. Run it from the project:
``python train.py``.
"""

from pathlib import Path

import numpy as np
import openvino
from openvino import opset13 as ops
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from service.core import manifest
from service.core.tensors import TensorSpec

MODELS = Path(__file__).parent / "models"
BRIGHTEST = 16
"""Of a pixel in the data set; the model takes pixels from 0 to 1."""


def convert(classifier: LogisticRegression) -> openvino.Model:
    """Convert a logistic regression to operations of OpenVINO that take pictures."""
    pixels = ops.parameter([-1, 1, 8, 8], np.float32)
    weights = classifier.coef_.astype(np.float32)
    biases = classifier.intercept_.astype(np.float32)
    flat = ops.reshape(pixels, np.array([0, 64]), special_zero=True)
    scores = ops.add(ops.matmul(flat, weights, False, True), biases)
    probabilities = ops.softmax(scores, axis=1)
    pixels.output(0).set_names({"pixels"})
    probabilities.output(0).set_names({"probabilities"})
    return openvino.Model([probabilities], [pixels], "digits")


def main() -> None:
    pictures, digits = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        pictures / BRIGHTEST, digits, test_size=0.2, stratify=digits, random_state=0
    )
    classifier = LogisticRegression(max_iter=1000).fit(train_x, train_y)
    print(f"accuracy on {len(test_y)} held-out pictures: {classifier.score(test_x, test_y):.3f}")

    MODELS.mkdir(exist_ok=True)
    artifact = MODELS / "digits.xml"
    openvino.save_model(convert(classifier), artifact, compress_to_fp16=False)

    described = manifest.describe(
        artifact,
        name="digits",
        version="1",
        runtime="openvino",
        inputs=(TensorSpec("pixels", "FP32", (-1, 1, 8, 8)),),
        outputs=(TensorSpec("probabilities", "FP32", (-1, 10)),),
    )
    print(f"wrote {artifact} and {described.write(MODELS)}")


if __name__ == "__main__":
    main()
