"""The command that plants faults: what it refuses, what it draws, and a sample of what it finds."""

from dataclasses import replace
from pathlib import Path

import pytest
from faults.__main__ import main
from faults.drawn import draw
from faults.fault import Fault, FaultError, planted, reasons
from faults.trial import PARTS, Trials

from inferplate.template.source import template_root
from inferplate_tools.workbench import Workbench

PLANTED = list(planted())
SAMPLE = (
    "a neighbour's rows",
    "whole numbers become floats in JSON",
    "WebSockets without a key",
    "a wrong key is logged",
    "MAX_TENSORS",
    "gzip;q=0 is taken for gzip",
    "fastapi: no hooks",
    "any answer is health",
    "lint: format only",
)


@pytest.fixture
def trials(bench: Workbench) -> Trials:
    return Trials(template_root(), bench)


@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: f"{fault.kind}: {fault.what}")
def test_every_fault_can_be_planted(fault: Fault) -> None:
    text = (template_root() / fault.file).read_text(encoding="utf-8")
    assert fault.plant(text) != text
    assert Path(fault.file).parts[0] in PARTS
    for test in fault.project:
        if test.startswith("tests/"):
            assert (template_root() / test.partition("::")[0]).is_file()


def test_a_fault_without_its_place_is_named() -> None:
    fault = replace(PLANTED[0], old="what nobody has written")
    with pytest.raises(FaultError, match="occurs 0 times"):
        fault.plant("something else")


def test_the_draw_depends_on_the_seed_alone_and_survives_changes_elsewhere(tmp_path: Path) -> None:
    root = template_root()
    assert draw(root, 0, 1) == []
    drawn = draw(root, 3, 1)
    assert drawn == draw(root, 3, 1)
    assert [fault.name for fault in drawn] != [fault.name for fault in draw(root, 3, 2)]
    for fault in drawn:
        copy = tmp_path / fault.file
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(f'"""More above."""\n\n{fault.old}', encoding="utf-8")
    again = {fault.change for fault in draw(tmp_path, 20, 1)}
    assert again >= {fault.change for fault in drawn}


def test_every_equivalent_fault_has_a_reason() -> None:
    for (file, _), reason in reasons().items():
        assert (template_root() / file).is_file()
        assert len(reason) > 20


@pytest.mark.slow
def test_a_sample_is_noticed_and_what_is_none_survives(trials: Trials) -> None:
    chosen = [fault for fault in PLANTED if fault.what in SAMPLE]
    assert len(chosen) == len(SAMPLE)
    none = replace(chosen[0], new=chosen[0].old, what="none")
    with trials:
        outcomes = [trials.run(fault) for fault in (none, *chosen)]
    survivors = [outcome.fault.what for outcome in outcomes if not outcome.noticed]
    assert survivors == ["none"]


@pytest.mark.parametrize(("arguments", "count"), [([], len(PLANTED) + 3), (["--sample", "4"], 4)])
def test_the_faults_can_be_listed(
    arguments: list[str], count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--list", "--drawn", "3", *arguments]) == 0
    assert len(capsys.readouterr().out.splitlines()) == count
