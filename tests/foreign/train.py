"""Write an artifact without contents, and its manifest."""

from pathlib import Path

from service.core import manifest
from service.runtime import RUNTIME, SIGNATURE

MODELS = Path(__file__).parent / "models"

if __name__ == "__main__":
    MODELS.mkdir(exist_ok=True)
    artifact = MODELS / "adder.txt"
    artifact.write_text("adds")
    manifest.describe(
        artifact,
        name="adder",
        version="1",
        runtime=RUNTIME,
        inputs=SIGNATURE.inputs,
        outputs=SIGNATURE.outputs,
    ).write(MODELS)
