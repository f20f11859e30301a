"""Train the example model: the digit in a picture of eight by eight pixels, as an ONNX graph.

Writes ``models/digits.onnx`` and its manifest. Run it from the project: ``python train.py``.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from service.core import manifest
from service.core.tensors import TensorSpec

MODELS = Path(__file__).parent / "models"
BRIGHTEST = 16
"""Of a pixel in the data set; the model takes pixels from 0 to 1."""


def convert(classifier: LogisticRegression) -> onnx.ModelProto:
    """Convert a logistic regression to a graph that takes pictures."""
    parameters = {"weights": classifier.coef_, "biases": classifier.intercept_}
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["pixels"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights", "biases"], ["scores"], transB=1),
            helper.make_node("Softmax", ["scores"], ["probabilities"]),
        ],
        "digits",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["rows", 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 10])],
        [
            numpy_helper.from_array(values.astype(np.float32), name)
            for name, values in parameters.items()
        ],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    return model


def main() -> None:
    pictures, digits = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        pictures / BRIGHTEST, digits, test_size=0.2, stratify=digits, random_state=0
    )
    classifier = LogisticRegression(max_iter=1000).fit(train_x, train_y)
    print(f"accuracy on {len(test_y)} held-out pictures: {classifier.score(test_x, test_y):.3f}")

    MODELS.mkdir(exist_ok=True)
    artifact = MODELS / "digits.onnx"
    onnx.save(convert(classifier), artifact)

    described = manifest.describe(
        artifact,
        name="digits",
        version="1",
        runtime="onnxruntime",
        inputs=(TensorSpec("pixels", "FP32", (-1, 1, 8, 8)),),
        outputs=(TensorSpec("probabilities", "FP32", (-1, 10)),),
    )
    print(f"wrote {artifact} and {described.write(MODELS)}")


if __name__ == "__main__":
    main()
