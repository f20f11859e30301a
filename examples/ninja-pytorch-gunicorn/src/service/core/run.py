"""How a model is run: it cannot change its inputs, and its outputs are checked."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from service.core.manifest import ArtifactError, check_outputs
from service.core.tensors import Tensors, TensorSpec

if TYPE_CHECKING:
    from service.interfaces import Model

Run = Callable[[Tensors], Tensors]


def checked(model: "Model", outputs: Sequence[TensorSpec]) -> Run:
    """Return a model's ``run`` with arrays that it cannot change, and outputs that are checked.

    The arrays may belong to others: a batch of one request has the request's own.
    """

    def run(batch: Tensors) -> Tensors:
        views = {name: array.view() for name, array in batch.items()}
        for view in views.values():
            view.flags.writeable = False
        try:
            results = model.run(views)
        except ValueError as error:
            if "read-only" in str(error):  # as NumPy says it
                raise ArtifactError(f"the model writes into its inputs: {error}") from error
            raise
        check_outputs(outputs, results)
        return results

    return run


def check_rows(outputs: Tensors, rows: int) -> None:
    """Check that a model gave a row of each output for each row of a batch.

    Raises:
        ValueError: it gave more or less.
    """
    for name, array in outputs.items():
        if array.shape[:1] != (rows,):
            raise ValueError(f"the model's output {name} does not have {rows} rows")
