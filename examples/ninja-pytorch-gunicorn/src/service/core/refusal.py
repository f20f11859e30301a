"""Which of several instances was refused."""

from collections.abc import Callable, Generator

from service.core.errors import Refused

Search = Generator[slice, Refused | None, Refused]


def locate(refused: Refused, count: int, attempt: Callable[[slice], object]) -> Refused:
    """Return a refusal that names the first of ``count`` items that is refused.

    ``attempt`` raises Refused for a slice that holds such an item. It is called with less and less
    of them, some ``2 * count`` in total. If no item is refused by itself, none is named.
    """
    parts = search(refused, count)
    outcome: Refused | None = None
    while True:
        try:
            part = parts.send(outcome)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        outcome = None
        try:
            attempt(part)
        except Refused as error:
            outcome = error


def search(refused: Refused, count: int) -> Search:
    """Yield slices to attempt, take how each was refused, and return the refusal."""
    found, start, stop, certain = refused, 0, count, count == 1
    while found.instance is None and stop - start > 1:
        middle = (start + stop) // 2
        error = yield slice(start, middle)
        if error:
            found, stop, certain = error, middle, True
        else:
            start, certain = middle, False
    index = start
    if found.instance is not None:
        index += found.instance
    elif not certain:
        error = yield slice(start, stop)
        if not error:
            return refused
        found = error
    return Refused(found.detail, field=found.field, instance=index)
