"""Further paths of the probe and the predictions, under the names that platforms want."""

import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from service.ops.settings import Settings

READY: Final = "/v2/health/ready"
ASKED: Final = "service.asked"
"""Key of a scope with the path that the client asked for, where it is a further one."""


class FurtherPaths(NamedTuple):
    """Paths that answer as others do, empty if there are none.

    ``health``: answers as the readiness probe. ``predict``: answers as /predict, and ignores
    ``parameters`` beside the instances; where there is no /predict, it infers.
    """

    health: str
    predict: str


def further_paths(settings: Settings, is_owners: Callable[[str], bool]) -> FurtherPaths:
    """Return the further paths of a service.

    Those that the protocol has answer as they do anyway. ``is_owners``: tells where the owner has a
    route, which comes first.
    """
    given = (settings.health_path, settings.predict_path)
    return FurtherPaths(
        *("" if path.startswith("/v2/") or is_owners(path) else path for path in given)
    )


def without_parameters(document: Any) -> bytes | None:
    """Take ``parameters`` out of a request; return its JSON, None if there are none."""
    if not isinstance(document, dict) or "parameters" not in document:
        return None
    del document["parameters"]
    return json.dumps(document).encode("ascii")
