"""The context of a request: its deadline and its cancellation."""

import time

import pytest

from service.core.request_context import RequestContext


def test_deadline_is_counted_from_arrival_on_the_monotonic_clock() -> None:
    before = time.monotonic()
    context = RequestContext(7, "an id", "a trace")
    assert before <= context.arrival <= time.monotonic()
    assert context.deadline == context.arrival + 7
    assert (context.request_id, context.trace_id) == ("an id", "a trace")


@pytest.mark.parametrize(
    ("timeouts", "seconds"), [([5], 5), ([5, 3], 3), ([3, 5], 3), ([60], 30), ([], 30)]
)
def test_deadline_is_brought_forward_but_never_pushed_back(
    timeouts: list[float], seconds: float
) -> None:
    context = RequestContext(30)
    for timeout in timeouts:
        context.shorten(timeout)
    assert context.deadline == context.arrival + seconds


def test_cancelling_calls_whoever_works_on_the_request() -> None:
    context, called = RequestContext(30), list[str]()
    first, second = lambda: called.append("first"), lambda: called.append("second")
    context.add_cancel_callback(first)
    context.add_cancel_callback(second)
    context.remove_cancel_callback(first)
    assert not context.cancelled
    context.cancel()
    assert context.cancelled
    assert called == ["second"]


def test_a_callback_may_remove_itself_and_others() -> None:
    context, called = RequestContext(30), list[str]()

    def finish() -> None:
        called.append("finished")
        context.remove_cancel_callback(finish)
        context.remove_cancel_callback(print)

    context.add_cancel_callback(finish)
    context.cancel()
    context.cancel()
    assert called == ["finished"]
