"""Train the example model: iris species from four measurements, with CatBoost.

Writes ``models/iris.cbm`` and its manifest. Run it from the project: ``python train.py``.
"""

from pathlib import Path

from catboost import CatBoostClassifier
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

from service.core import manifest
from service.core.tensors import TensorSpec

MODELS = Path(__file__).parent / "models"


def main() -> None:
    features, species = load_iris(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        features, species, test_size=0.2, stratify=species, random_state=0
    )
    model = CatBoostClassifier(
        iterations=60,
        depth=3,
        learning_rate=0.2,
        loss_function="MultiClass",
        thread_count=1,
        random_seed=0,
        allow_writing_files=False,
        verbose=False,
    )
    model.fit(train_x, train_y)
    accuracy = model.score(test_x, test_y)
    print(f"accuracy on {len(test_y)} held-out flowers: {accuracy:.3f}")

    MODELS.mkdir(exist_ok=True)
    artifact = MODELS / "iris.cbm"
    model.save_model(artifact)

    described = manifest.describe(
        artifact,
        name="iris",
        version="1",
        runtime="catboost",
        inputs=(TensorSpec("measurements", "FP32", (-1, 4)),),
        outputs=(TensorSpec("probabilities", "FP32", (-1, 3)),),
    )
    print(f"wrote {artifact} and {described.write(MODELS)}")


if __name__ == "__main__":
    main()
