"""Logs on standard output, with the identity of the request that is being answered."""

import logging
import sys
from contextvars import ContextVar
from typing import Final, NamedTuple

from pythonjsonlogger.json import JsonFormatter

from service.ops.settings import Settings


class RequestIdentity(NamedTuple):
    """The ids under which a request is logged; empty if it has none."""

    request_id: str = ""
    trace_id: str = ""


_NO_REQUEST: Final = RequestIdentity()

current_request: Final = ContextVar("current_request", default=_NO_REQUEST)
"""The request that is being answered, for log records only."""

_LONGEST_TEXT: Final = 16_384
"""Characters of a message, or of a traceback."""
_NOT_LOGGED: Final = ("message", "asctime", "request_suffix", "color_message")
_RESERVED: Final = [
    name
    for name in (*vars(logging.makeLogRecord({})), *_NOT_LOGGED)
    if name not in {"levelname", "name"}
]


def configure_logging(settings: Settings) -> None:
    """Send every log record of this process to standard output, in the configured format."""
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(_add_request)
    handler.addFilter(_shorten)
    is_terminal = sys.stdout.isatty()
    if settings.log_format == "json" or (settings.log_format == "auto" and not is_terminal):
        handler.setFormatter(
            JsonFormatter(
                "%(message)s",
                timestamp="timestamp",
                rename_fields={"levelname": "level", "name": "logger"},
                reserved_attrs=_RESERVED,
            )
        )
    else:
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s%(request_suffix)s")
        )
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)


def _shorten(record: logging.LogRecord) -> bool:
    """Cut texts that are too long for a line: an exception may hold all of its input."""
    message = record.getMessage()
    if len(message) > _LONGEST_TEXT:
        record.msg, record.args = _cut(message), None
    if record.exc_info:
        record.exc_text = _cut(logging.Formatter().formatException(record.exc_info))
        record.exc_info = None
    return True


def _cut(text: str) -> str:
    if len(text) <= _LONGEST_TEXT:
        return text
    half = _LONGEST_TEXT // 2
    left_out = len(text) - 2 * half
    return f"{text[:half]} [{left_out} characters left out] {text[-half:]}"


def _add_request(record: logging.LogRecord) -> bool:
    request_id, trace_id = current_request.get()
    record.request_suffix = f" [{request_id}]" if request_id else ""
    if request_id:
        record.request_id = request_id
    if trace_id:
        record.trace_id = trace_id
    return True
