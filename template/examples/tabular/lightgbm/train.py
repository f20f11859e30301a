"""Train the example model: iris species from four measurements, with LightGBM.

Writes ``models/iris.txt`` and its manifest. Run it from the project: ``python train.py``.
"""

from pathlib import Path

import lightgbm
import numpy as np
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

from service.core import manifest
from service.core.tensors import TensorSpec

MODELS = Path(__file__).parent / "models"
PARAMETERS = {
    "objective": "multiclass",
    "num_class": 3,
    "max_depth": 3,
    "min_data_in_leaf": 5,
    "learning_rate": 0.1,
    "deterministic": True,
    "num_threads": 1,
    "seed": 0,
    "verbosity": -1,
}


def main() -> None:
    features, species = load_iris(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        features, species, test_size=0.2, stratify=species, random_state=0
    )
    booster = lightgbm.train(PARAMETERS, lightgbm.Dataset(train_x, train_y), num_boost_round=40)
    predicted = np.asarray(booster.predict(test_x)).argmax(axis=1)
    accuracy = (predicted == test_y).mean()
    print(f"accuracy on {len(test_y)} held-out flowers: {accuracy:.3f}")

    MODELS.mkdir(exist_ok=True)
    artifact = MODELS / "iris.txt"
    booster.save_model(artifact)

    described = manifest.describe(
        artifact,
        name="iris",
        version="1",
        runtime="lightgbm",
        inputs=(TensorSpec("measurements", "FP32", (-1, 4)),),
        outputs=(TensorSpec("probabilities", "FP32", (-1, 3)),),
    )
    print(f"wrote {artifact} and {described.write(MODELS)}")


if __name__ == "__main__":
    main()
