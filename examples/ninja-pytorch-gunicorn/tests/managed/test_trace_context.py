"""The parent that ``traceparent`` names, by the letter of W3C Trace Context."""

import pytest

from service.ops.trace_context import trace_id, traceparent

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("header", "parent"),
    [
        (PARENT, PARENT),
        (f" {PARENT}\t", PARENT),
        (f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-00"),
        (f"00-{TRACE}-{SPAN}-ff", f"00-{TRACE}-{SPAN}-ff"),
        # A version of the future may have more, after a dash.
        (f"cc-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01"),
        (f"01-{TRACE}-{SPAN}-01-more", f"01-{TRACE}-{SPAN}-01"),
        (f"fe-{TRACE}-{SPAN}-01-", f"fe-{TRACE}-{SPAN}-01"),
        (f"01-{TRACE}-{SPAN}-01-{'x' * 600}", f"01-{TRACE}-{SPAN}-01"),
        (f"01-{TRACE}-{SPAN}-01more", None),
        (f"01-{TRACE}-{SPAN}-01.", None),
        # The version of today has exactly 55 characters.
        (f"{PARENT}-more", None),
        (f"{PARENT}-", None),
        (f"{PARENT}0", None),
        (PARENT[:-1], None),
        (f"00-{TRACE}-{SPAN}", None),
        (f"00-{TRACE[:-1]}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN[:-1]}-01", None),
        (f"0-{TRACE}-{SPAN}-01", None),
        # No version, no trace, no span.
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"ff-{TRACE}-{SPAN}-01-more", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"01-{'0' * 32}-{SPAN}-01-more", None),
        # Hexadecimal digits are lowercase, and separated by dashes.
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN.upper()}-01", None),
        (f"0A-{TRACE}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}-0A", None),
        (f"00-{TRACE[:-1]}g-{SPAN}-01", None),
        (f"00_{TRACE}_{SPAN}_01", None),
        (f"00-{TRACE}-{SPAN}-01\n", None),
        ("", None),
        (f"{PARENT}, {PARENT}", None),
    ],
)
def test_parents(header: str, parent: str | None) -> None:
    headers = [(b"host", b"service"), (b"traceparent", header.encode())]
    assert traceparent(headers) == (parent.encode() if parent else None)
    assert trace_id(headers) == (TRACE if parent else "")


def test_a_request_has_one_parent() -> None:
    header = (b"traceparent", PARENT.encode())
    assert traceparent([]) is None
    assert traceparent([header, header]) is None
