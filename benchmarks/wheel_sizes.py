"""How large the environment of a service is: the wheels to download, and what they unpack to.

    uv pip compile pyproject.toml --python-version 3.12 --python-platform x86_64-manylinux_2_28 \\
        --format pylock.toml --output-file pylock.toml
    python benchmarks/wheel_sizes.py pylock.toml

The sizes of downloads are in the lock file. What a wheel unpacks to is in the directory at its end,
of which only that part is fetched. Bytecode comes on top, about a tenth.
"""

import io
import sys
import tomllib
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

MB = 1e6


class Remote(io.RawIOBase):
    """A file behind an address that answers to ranges. ``size``: its length in bytes."""

    def __init__(self, address: str, size: int) -> None:
        self._address, self._size, self._at = address, size, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = (0, self._at, self._size)[whence] + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        last = min(self._at + len(buffer), self._size) - 1
        if last < self._at:
            return 0
        headers = {"Range": f"bytes={self._at}-{last}"}
        request = urllib.request.Request(self._address, headers=headers)  # noqa: S310 - of a lock
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            if answer.status != 206:
                raise urllib.error.URLError("the server does not answer to ranges")
            content: bytes = answer.read()
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


def unpacked(address: str, size: int) -> int:
    """Return the bytes of all files in a wheel."""
    buffered = io.BufferedReader(Remote(address, size), 2**18)
    with zipfile.ZipFile(buffered) as wheel:
        return sum(member.file_size for member in wheel.infolist())


def main(lock: Path) -> int:
    totals = [0, 0]
    print("| wheel | download, MB | unpacked, MB |\n|---|---:|---:|")
    rows = []
    for package in tomllib.loads(lock.read_text(encoding="utf-8"))["packages"]:
        if not package.get("wheels"):
            print(f"wheel_sizes: {package['name']} has no wheel", file=sys.stderr)
            return 1
        wheel = package["wheels"][0]
        rows.append((wheel["size"], unpacked(wheel["url"], wheel["size"]), package["name"]))
    for download, whole, name in sorted(rows, reverse=True):
        totals[0] += download
        totals[1] += whole
        if download > 20 * MB:
            print(f"| {name} | {download / MB:.0f} | {whole / MB:.0f} |")
    print(f"| all {len(rows)} | {totals[0] / MB:.0f} | {totals[1] / MB:.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
