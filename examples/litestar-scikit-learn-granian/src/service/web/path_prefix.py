"""The path prefix under which clients find the service, as behind a reverse proxy."""

from typing import Final

from service.web.asgi import Scope


class PathPrefix:
    """Takes the prefix from the paths of requests.

    Some proxies pass it on, others take it away, and probes come without it: all are accepted.
    ``configured``: the setting, such as /iris, or empty.
    """

    def __init__(self, configured: str) -> None:
        self._configured: Final = configured

    def remove(self, scope: Scope) -> Scope:
        """Return the scope with a path that begins at the service.

        Its ``root_path`` is the prefix that clients see: the setting, else what the server or an
        application around this one says.
        """
        mounted = scope.get("root_path", "").rstrip("/")
        if not (mounted or self._configured):
            return {**scope, "root_path": ""} if scope.get("root_path") else scope
        raw_path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        return {
            **scope,
            "root_path": self._configured or mounted,
            "path": self._local(scope["path"], mounted),
            "raw_path": self._local(raw_path, mounted).encode("latin-1"),
        }

    def _local(self, path: str, mounted: str) -> str:
        return _without(_without(path, mounted), self._configured)


def restore(scope: Scope) -> None:
    """Put ``root_path`` before the path, where ASGI and frameworks expect it."""
    if root_path := scope.get("root_path"):
        scope["path"] = root_path + scope["path"]
        scope["raw_path"] = root_path.encode("latin-1") + scope["raw_path"]


def _without(path: str, prefix: str) -> str:
    if prefix and (path == prefix or path.startswith(f"{prefix}/")):
        return path[len(prefix) :] or "/"
    return path
