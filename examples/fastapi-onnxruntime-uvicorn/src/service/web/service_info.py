"""The name, description and version of this service, as clients see them."""

import functools
import json
from dataclasses import dataclass
from importlib import metadata, resources


@dataclass(frozen=True, slots=True)
class ServiceInfo:
    """``distribution`` names the installed package; ``title`` is the name for people."""

    distribution: str
    title: str
    description: str
    version: str


@functools.cache
def service_info() -> ServiceInfo:
    """Read the names from ``service_info.json`` and the version from the installed package.

    The version is 0.0.0 if the service runs from a folder and is not installed.
    """
    text = resources.files("service.web").joinpath("service_info.json").read_text(encoding="utf-8")
    names = json.loads(text)
    try:
        version = metadata.version(names["distribution"])
    except metadata.PackageNotFoundError:
        version = "0.0.0"
    return ServiceInfo(**names, version=version)
