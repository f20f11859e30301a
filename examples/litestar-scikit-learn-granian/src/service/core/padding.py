"""Pads batches to a few sizes, for runtimes that compile a model anew for each size."""

import numpy as np

from service.core.errors import Refused
from service.core.run import Run, check_rows
from service.core.tensors import Tensors
from service.core.warmup import batch_sizes


def padded(run: Run, largest: int) -> Run:
    """Return a model's ``run`` that gives it only batches of a size that warm-up runs.

    A batch is filled up with its last row; the outputs have the rows that were given. ``largest``:
    rows of the largest batch. Batches with more rows run as they are.
    """
    sizes = batch_sizes(largest)

    def run_padded(batch: Tensors) -> Tensors:
        rows = len(next(iter(batch.values())))
        size = next((size for size in sizes if size >= rows), rows)
        if size == rows:
            return run(batch)
        order = np.minimum(np.arange(size), rows - 1)
        try:
            outputs = run({name: array[order] for name, array in batch.items()})
        except Refused as error:
            if error.instance is not None:
                error.instance = min(error.instance, rows - 1)
            raise
        check_rows(outputs, size)
        return {name: array[:rows] for name, array in outputs.items()}

    return run_padded
