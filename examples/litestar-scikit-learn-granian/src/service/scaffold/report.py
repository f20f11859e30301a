"""What ``python -m service manifest`` says of an artifact, to people or to programs."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from service.core.manifest import Manifest
from service.core.trial import Verdict

_SPEC: Final = {"name", "datatype", "shape"}


@dataclass(frozen=True, slots=True)
class Report:
    """A manifest that was written.

    ``path``: its file. ``remarks``: what there is to say of the owner's files, a line each.
    ``serve``: the command that serves the artifact.
    """

    path: Path
    described: Manifest
    verdict: Verdict
    remarks: Sequence[str]
    serve: str

    def show(self, *, as_json: bool) -> None:
        """Print it: lines for people, or one JSON object."""
        if as_json:
            print(json.dumps(self.document(), indent=2, ensure_ascii=False))
        else:
            print("\n".join(self.lines()))

    def document(self) -> dict[str, Any]:
        """Return it as plain data. ``batch_reason`` is empty unless there is one."""
        described, verdict = self.described, self.verdict
        return {
            "manifest": str(self.path),
            "name": described.name,
            "version": described.version,
            "inputs": [spec.model_dump(include=_SPEC) for spec in described.inputs],
            "outputs": [spec.model_dump(include=_SPEC) for spec in described.outputs],
            "batched": verdict.batched,
            "batch_reason": verdict.reason,
            "remarks": list(self.remarks),
            "serve": self.serve,
        }

    def lines(self) -> Iterator[str]:
        """Yield it as lines."""
        described, verdict = self.described, self.verdict
        yield f"{self.path}: {described.name} {described.version}"
        for kind, specs in (("input", described.inputs), ("output", described.outputs)):
            for spec in specs:
                yield f"  {kind} {spec.name} {spec.datatype} {spec.shape}"
        if verdict.batched:
            doubt = f": {verdict.reason}" if verdict.reason else ""
            yield f"  requests may share a batch{doubt}"
        else:
            yield f"  requests run one at a time: {verdict.reason}"
        yield from self.remarks
        yield f"Serve it: {self.serve}"


@contextlib.contextmanager
def prints_to_stderr(*, wanted: bool) -> Iterator[None]:
    """Send what others print to standard output, also from C, to standard error, if wanted."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
