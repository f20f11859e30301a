"""Train the example model: the digit in a picture of eight by eight pixels, with a tiny network.

Writes ``models/digits.pt2``, a PyTorch exported program, and its manifest. Run it from the
project: ``python train.py``.
"""

from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from service.core import manifest
from service.core.tensors import TensorSpec

MODELS = Path(__file__).parent / "models"
BRIGHTEST = 16
"""Of a pixel in the data set; the model takes pixels from 0 to 1."""


class Classifier(nn.Module):
    """A small convolutional network: probabilities of ten digits from pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 2 * 2, 10),
        )

    def scores(self, pixels: Tensor) -> Tensor:
        scores: Tensor = self.layers(pixels)
        return scores

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        return {"probabilities": self.scores(pixels).softmax(dim=-1)}


def fit(classifier: Classifier, pictures: Tensor, digits: Tensor) -> None:
    """Train for twenty epochs in batches of 64."""
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=5e-3)
    for _ in range(20):
        for rows in torch.split(torch.randperm(len(digits)), 64):
            loss = nn.functional.cross_entropy(classifier.scores(pictures[rows]), digits[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    features, labels = load_digits(return_X_y=True)
    pictures = torch.tensor(features / BRIGHTEST, dtype=torch.float32).reshape(-1, 1, 8, 8)
    train_x, test_x, train_y, test_y = train_test_split(
        pictures, torch.tensor(labels), test_size=0.2, stratify=labels, random_state=0
    )
    classifier = Classifier()
    fit(classifier, train_x, train_y)
    classifier.eval()
    with torch.inference_mode():
        predicted = classifier(test_x)["probabilities"].argmax(dim=-1)
    accuracy = (predicted == test_y).double().mean().item()
    print(f"accuracy on {len(test_y)} held-out pictures: {accuracy:.3f}")

    rows = torch.export.Dim("rows")
    program = torch.export.export(classifier, (test_x,), dynamic_shapes={"pixels": {0: rows}})
    MODELS.mkdir(exist_ok=True)
    artifact = MODELS / "digits.pt2"
    torch.export.save(program, artifact)

    described = manifest.describe(
        artifact,
        name="digits",
        version="1",
        runtime="pytorch",
        inputs=(TensorSpec("pixels", "FP32", (-1, 1, 8, 8)),),
        outputs=(TensorSpec("probabilities", "FP32", (-1, 10)),),
    )
    print(f"wrote {artifact} and {described.write(MODELS)}")


if __name__ == "__main__":
    main()
