"""Which of several instances was refused."""

from collections.abc import Callable

from service.core.errors import Refused


def locate(refused: Refused, count: int, attempt: Callable[[slice], object]) -> Refused:
    """Return a refusal that names the first of ``count`` items that is refused.

    ``attempt`` raises Refused for a slice that holds such an item. It is called with less and less
    of them, some ``2 * count`` in total. If no item is refused by itself, none is named.
    """
    found, start, stop, certain = refused, 0, count, count == 1
    while found.instance is None and stop - start > 1:
        middle = (start + stop) // 2
        try:
            attempt(slice(start, middle))
        except Refused as error:
            found, stop, certain = error, middle, True
        else:
            start, certain = middle, False
    index = start
    if found.instance is not None:
        index += found.instance
    elif not certain:
        try:
            attempt(slice(start, stop))
        except Refused as error:
            found = error
        else:
            return refused
    return Refused(found.detail, field=found.field, instance=index)
