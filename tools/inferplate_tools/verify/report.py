"""Results for people and for machines."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from rich.table import Table

from inferplate_tools.verify.checks import CHECKS
from inferplate_tools.verify.run import Result


@dataclass(frozen=True)
class Coverage:
    """How many of all combinations a check covered.

    ``passed`` and ``failed`` count combinations, ``seconds`` is the sum over them.
    """

    check: str
    passed: int
    failed: int
    total: int
    seconds: float

    def __str__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.passed} of {self.total}{failed}"


def coverage(results: Sequence[Result], total: int) -> list[Coverage]:
    """Sum results up by check, in the order in which the checks ran."""
    return [
        Coverage(
            check,
            sum(result.failure is None for result in mine),
            sum(result.failure is not None for result in mine),
            total,
            sum(result.seconds for result in mine),
        )
        for check in dict.fromkeys(result.check for result in results)
        if (mine := [result for result in results if result.check == check])
    ]


def coverage_table(results: Sequence[Result], total: int) -> Table:
    """Make the closing table: the combinations that each check covered."""
    table = Table(title="Combinations covered", title_justify="left")
    table.add_column("check")
    table.add_column("what it shows")
    table.add_column("combinations", justify="right")
    table.add_column("seconds", justify="right")
    for line in coverage(results, total):
        style = "red" if line.failed else "green" if line.passed == total else "yellow"
        description = CHECKS[line.check].description
        table.add_row(line.check, description, f"[{style}]{line}[/]", f"{line.seconds:.0f}")
    return table


def as_json(results: Sequence[Result], total: int) -> str:
    """Write results as a JSON document."""
    document = {
        "combinations": total,
        "checks": {
            line.check: {"passed": line.passed, "failed": line.failed}
            for line in coverage(results, total)
        },
        "results": [
            {
                "variant": result.variant.name,
                "check": result.check,
                "seconds": round(result.seconds, 3),
                "failure": result.failure,
            }
            for result in results
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def as_junit(results: Sequence[Result], total: int) -> str:
    """Write results as JUnit's XML, a suite for each check."""
    root = ElementTree.Element("testsuites", name="inferplate")
    for line in coverage(results, total):
        mine = [result for result in results if result.check == line.check]
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=line.check,
            tests=str(len(mine)),
            failures=str(line.failed),
            time=f"{line.seconds:.3f}",
        )
        for result in mine:
            case = ElementTree.SubElement(
                suite,
                "testcase",
                classname=line.check,
                name=result.variant.name,
                time=f"{result.seconds:.3f}",
            )
            if result.failure is not None:
                text = _xml_text(result.failure)
                message = text.partition("\n")[0]
                ElementTree.SubElement(case, "failure", message=message).text = text
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


WRITERS: Final = {"json": as_json, "junit": as_junit}


def write_report(kind: str, path: Path, results: Sequence[Result], total: int) -> None:
    """Write results to a file in one of the formats of `WRITERS`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(WRITERS[kind](results, total), encoding="utf-8")


def _xml_text(text: str) -> str:
    """Drop the characters that XML cannot hold."""
    return "".join(
        character for character in text if character in "\t\n" or character.isprintable()
    )
