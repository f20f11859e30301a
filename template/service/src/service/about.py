"""What this service calls itself."""

import functools
import json
from dataclasses import dataclass
from importlib import metadata, resources


@dataclass(frozen=True, slots=True)
class About:
    """``distribution`` is the name of the installed package, ``title`` the name for people."""

    distribution: str
    title: str
    description: str
    version: str


@functools.cache
def about() -> About:
    """Read the names from ``about.json`` and the version from the installed package.

    The version is 0.0.0 where the service runs from a folder that was not installed.
    """
    text = resources.files("service").joinpath("about.json").read_text(encoding="utf-8")
    names = json.loads(text)
    try:
        version = metadata.version(names["distribution"])
    except metadata.PackageNotFoundError:
        version = "0.0.0"
    return About(**names, version=version)
