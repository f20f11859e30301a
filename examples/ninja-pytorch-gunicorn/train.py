"""Train the example model: iris species from four measurements, as a PyTorch exported program.

Writes ``models/iris.pt2`` and its manifest. Run it from the project: ``python train.py``.
"""

from pathlib import Path

import torch
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from service.core import manifest
from service.core.tensors import TensorSpec

MODELS = Path(__file__).parent / "models"


class Classifier(nn.Module):
    """Logistic regression: probabilities of three species from four measurements."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, measurements: Tensor) -> dict[str, Tensor]:
        return {"probabilities": self.linear(measurements).softmax(dim=-1)}


def fit(classifier: Classifier, features: Tensor, species: Tensor) -> None:
    """Minimise the cross entropy plus half the squared norm of the weights."""
    nn.init.zeros_(classifier.linear.weight)
    nn.init.zeros_(classifier.linear.bias)
    optimiser = torch.optim.LBFGS(
        classifier.parameters(), max_iter=500, line_search_fn="strong_wolfe"
    )

    def loss() -> float:
        optimiser.zero_grad()
        entropy = nn.functional.cross_entropy(classifier.linear(features), species, reduction="sum")
        total = entropy + classifier.linear.weight.square().sum() / 2
        total.backward()  # type: ignore[no-untyped-call]
        return total.item()

    optimiser.step(loss)  # type: ignore[no-untyped-call]


def main() -> None:
    torch.manual_seed(0)
    features, species = load_iris(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        torch.tensor(features, dtype=torch.float32),
        torch.tensor(species),
        test_size=0.2,
        stratify=species,
        random_state=0,
    )
    classifier = Classifier()
    fit(classifier, train_x, train_y)
    classifier.eval()
    predicted = classifier(test_x)["probabilities"].argmax(dim=-1)
    accuracy = (predicted == test_y).double().mean().item()
    print(f"accuracy on {len(test_y)} held-out flowers: {accuracy:.3f}")

    rows = torch.export.Dim("rows")
    program = torch.export.export(classifier, (test_x,), dynamic_shapes={"measurements": {0: rows}})
    MODELS.mkdir(exist_ok=True)
    artifact = MODELS / "iris.pt2"
    torch.export.save(program, artifact)

    described = manifest.describe(
        artifact,
        name="iris",
        version="1",
        runtime="pytorch",
        inputs=(TensorSpec("measurements", "FP32", (-1, 4)),),
        outputs=(TensorSpec("probabilities", "FP32", (-1, 3)),),
    )
    print(f"wrote {artifact} and {described.write(MODELS)}")


if __name__ == "__main__":
    main()
