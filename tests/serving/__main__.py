"""The command line of the service, around the application of these tests."""

import contextlib
import logging
import sys

from service.ops import process
from service.ops.settings import load_settings


class Json(logging.Formatter):
    def format(self, record):
        import json

        return json.dumps(
            {"logger": record.name, "level": record.levelname, "message": record.getMessage()}
        )


def configure_logging(settings):
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(Json())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)


if __name__ == "__main__":
    settings = load_settings()
    with process.prepare(settings.workers):
        configure_logging(settings)
        from service.server import serve

        try:
            with contextlib.suppress(SystemExit):
                serve(settings)
        except OSError as error:
            print(f"service: {error}", file=sys.stderr)
            sys.exit(1)
        if message := process.failure():
            print(f"service: {message}", file=sys.stderr)
        sys.exit(process.exit_code())
