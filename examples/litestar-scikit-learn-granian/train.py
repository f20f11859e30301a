"""Train the example model: iris species from four measurements, with scikit-learn.

Writes ``models/iris.skops`` and its manifest. Run it from the project: ``python train.py``.
"""

from pathlib import Path

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from skops import io

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

    MODELS.mkdir(exist_ok=True)
    artifact = MODELS / "iris.skops"
    io.dump(classifier, artifact)

    described = manifest.describe(
        artifact,
        name="iris",
        version="1",
        runtime="scikit-learn",
        inputs=(TensorSpec("measurements", "FP32", (-1, 4)),),
        outputs=(TensorSpec("probabilities", "FP32", (-1, 3)),),
        parameters={"trusted": io.get_untrusted_types(file=artifact)},
    )
    print(f"wrote {artifact} and {described.write(MODELS)}")


if __name__ == "__main__":
    main()
