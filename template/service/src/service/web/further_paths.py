"""Further paths of the probe and the predictions, under the names that platforms want."""

from collections.abc import Callable
from typing import Final, NamedTuple

from service.ops.settings import Settings

READY: Final = "/v2/health/ready"
ASKED: Final = "service.asked"
"""Key of a scope with the path that the client asked for, where it is a further one."""


class FurtherPaths(NamedTuple):
    """Paths that answer as others do, empty if there are none.

    ``health``: answers as the readiness probe. ``predict``: predicts for instances, or infers
    where the service takes none.
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
