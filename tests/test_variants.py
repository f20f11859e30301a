"""Every check of every variant, by the code of ``inferplate-verify``."""

from collections import Counter

from conftest import Covers, plan_checks

from inferplate.template.variants import Variant
from inferplate_tools.verify.checks import Check
from inferplate_tools.workbench import Workbench

TOTALS = Counter(check.name for _, check in plan_checks(quick=False))


def test_variant(bench: Workbench, variant: Variant, check: Check, covers: Covers) -> None:
    covers(f"{check.name}: {check.description}", variant, TOTALS[check.name])
    check.run(bench, variant)
