"""Every check of every variant, by the code of ``inferplate verify``."""

from conftest import ALL_VARIANTS, Covers

from inferplate.checks import Check
from inferplate.matrix import Variant
from inferplate.workbench import Workbench


def test_variant(bench: Workbench, variant: Variant, check: Check, covers: Covers) -> None:
    covers(f"{check.name}: {check.description}", variant, len(ALL_VARIANTS))
    check.run(bench, variant)
