"""The repository that these tools belong to: they run from a checkout only."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
BENCHMARKS: Final = ROOT / "benchmarks"
SNAPSHOTS: Final = ROOT / "tests" / "snapshots"
