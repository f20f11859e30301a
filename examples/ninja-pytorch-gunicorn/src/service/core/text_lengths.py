"""Texts of like length: a model that pads to the longest takes as long for each as for that one."""

from typing import Final

import numpy as np

from service.core.tensors import Array, Tensors

_SHORT: Final = 6
"""Texts of fewer than ``2 ** _SHORT`` bytes are alike: to pad one of them costs little."""


def length_classes(tensors: Tensors) -> Array:
    """Return a number for each row, which is the same where the longest texts are alike.

    The lengths of texts of one class differ by less than a factor of two, or are short.
    """
    rows = len(next(iter(tensors.values())))
    classes = np.full(rows, _SHORT)
    for array in tensors.values():
        if array.dtype == object:
            bits = [0 if text is None else len(text).bit_length() for text in array.flat]
            longest = np.array(bits, dtype=np.int64).reshape(rows, -1).max(axis=1, initial=0)
            classes = np.maximum(classes, longest)
    return classes
