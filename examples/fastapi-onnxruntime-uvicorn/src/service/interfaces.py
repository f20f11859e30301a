"""What the chosen parts must offer: the model runtime, the web framework and the server.

`service.runtime`, `service.app` and `service.server` are modules of these shapes; mypy checks them
where `service.main` and `service.__main__` put the service together. An alternative of your own
works as soon as it has what is listed here.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from service.core.manifest import Manifest
    from service.core.tensors import Signature, Tensors
    from service.ops.settings import Settings
    from service.web.asgi import Scope


class Model(Protocol):
    """A loaded model. All calls come from the thread that loaded it.

    ``signature``: the tensors, as far as the artifact describes them; they are compared with the
    manifest.
    """

    @property
    def signature(self) -> "Signature": ...

    def run(self, batch: "Tensors") -> "Tensors":
        """Run the model on tensors by the manifest's names, and return its outputs by theirs.

        The arrays are read-only. What it raises fails only the requests that cause it, with a text
        that says nothing.

        Raises:
            Refused: a row has a value that the model cannot take; its client gets the row, the
                field and the text.
            InvalidTensors: a request cannot be taken; its client gets the text.
        """
        ...


class Runtime(Protocol):
    """``service.runtime``: reads an artifact and makes a model of it.

    ``RUNTIME``: the name that manifests give.
    """

    @property
    def RUNTIME(self) -> str: ...

    def inspect(self, artifact: Path, parameters: dict[str, Any]) -> "Signature":
        """Describe an artifact, for ``python -m service manifest``.

        Raises:
            ArtifactError: it cannot be read, or does not describe itself.
        """
        ...

    def load(self, artifact: Path, manifest: "Manifest", *, threads: int, device: str) -> Model:
        """Load an artifact whose checksums match. It is called in the model's thread.

        Raises:
            ArtifactError: it cannot be loaded, or the device is not available.
        """
        ...


class Framework(Protocol):
    """``service.app``: the application with the routes of `service.routes`."""

    @property
    def app(self) -> Callable[..., Awaitable[None]]: ...

    def lifespan(self) -> AbstractAsyncContextManager[Mapping[str, Any] | None]:
        """Run the start-up and shutdown of the application.

        It yields the state that requests get in their scope, if there is any.
        """
        ...

    def openapi(self) -> dict[str, Any]:
        """Return the framework's OpenAPI document of the routes of `service.routes`."""
        ...

    def has_route(self, path: str) -> bool:
        """Return whether there is a route at this path, whatever its methods."""
        ...

    def route_template(self, scope: "Scope") -> str | None:
        """Return the route that answered, such as /items/{id}; None if there was none."""
        ...


class Server(Protocol):
    """``service.server``: runs ``service.main:app``."""

    def serve(self, settings: "Settings") -> None:
        """Serve until SIGTERM or SIGINT, then finish the requests in flight.

        `service.ops.process` records how it ended, whether this returns or raises SystemExit.

        Raises:
            OSError: the address or the TLS files cannot be used.
        """
        ...
