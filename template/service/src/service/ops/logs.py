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
    if settings.log_format == "json":
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


def _add_request(record: logging.LogRecord) -> bool:
    request_id, trace_id = current_request.get()
    record.request_suffix = f" [{request_id}]" if request_id else ""
    if request_id:
        record.request_id = request_id
    if trace_id:
        record.trace_id = trace_id
    return True
