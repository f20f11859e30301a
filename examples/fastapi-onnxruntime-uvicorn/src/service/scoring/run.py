"""A run: rows in, results out, with one request to the engine at a time.

While the model runs a request, the results of the one before are written and the next rows are
read. A request has a fixed number of rows, none of them refused by their values, and shares its
batches with no other. So the same rows run together whenever a run goes on: its result is that of a
run without interruption, to the last bit.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from pydantic import BaseModel

from service.core.errors import NotReady
from service.scoring.draft import Draft
from service.scoring.errors import Refusal, Row
from service.scoring.progress import Progress
from service.scoring.results import Encode, refused_line
from service.scoring.scorer import Answered, Checked, Scorer

_MOST_REFUSED: Final = 1000
"""Refused rows that a request may have besides."""
_KEEP_ROWS: Final = 50_000
_KEEP_SECONDS: Final = 10.0
"""So often the draft is brought to the disk."""


@dataclass
class Request:
    """Rows, each with its instance or its refusal. ``size``: how many have instances."""

    rows: list[Row] = field(default_factory=list)
    checked: list[Checked] = field(default_factory=list)
    size: int = 0

    @property
    def valid(self) -> list[tuple[Row, BaseModel]]:
        """The rows with instances, and these."""
        pairs = zip(self.rows, self.checked, strict=True)
        return [(row, made) for row, made in pairs if not isinstance(made, Refusal)]


@dataclass
class Run:
    """One run of the command over a file. ``stopping``: set to end it before its time."""

    scorer: Scorer
    draft: Draft
    encode: Encode
    progress: Progress
    stopping: Callable[[], bool]
    _kept_rows: int = 0
    _kept_at: float = field(default_factory=time.monotonic)

    async def score(self, rows: Iterator[Row]) -> bool:
        """Score rows until there are none, and return whether it came so far.

        Raises:
            CannotScore: a row, or the file, ends the run.
        """
        self._kept_rows = self.draft.rows
        waiting: tuple[Request, asyncio.Task[list[bytes]]] | None = None
        try:
            for request in self._requests(rows):
                answers = await self._answers(*waiting) if waiting else []
                before = waiting
                waiting = None
                if not self.stopping():
                    waiting = request, asyncio.create_task(self._predict(request))
                    # In the first step it makes tensors, in the second one the model gets them.
                    for _ in range(2):
                        await asyncio.sleep(0)
                if before:
                    self._write(before[0], answers)
                if waiting is None:
                    return False
            if waiting:
                self._write(waiting[0], await self._answers(*waiting))
                waiting = None
            return True
        finally:
            if waiting:
                waiting[1].cancel()
                await asyncio.wait([waiting[1]])
            self.draft.keep()

    def _requests(self, rows: Iterator[Row]) -> Iterator[Request]:
        size = self.scorer.request_size
        request = Request()
        while block := list(islice(rows, size)):
            for row, checked in zip(block, self.scorer.check(block), strict=True):
                request.rows.append(row)
                request.checked.append(checked)
                request.size += not isinstance(checked, Refusal)
                if request.size == size or len(request.rows) == size + _MOST_REFUSED:
                    yield request
                    request = Request()
        if request.rows:
            yield request

    async def _predict(self, request: Request) -> list[bytes]:
        made = [made for _, made in request.valid]
        return await self.scorer.predict(made) if made else []

    async def _answers(
        self, request: Request, task: "asyncio.Task[list[bytes]]"
    ) -> Sequence[Answered]:
        """Return what a request got; if it failed as a whole, what each of its rows gets."""
        await asyncio.wait([task])
        error = task.exception()
        if error is None:
            return task.result()
        valid = request.valid
        rows = [row for row, _ in valid]
        if isinstance(error, NotReady):
            raise self.scorer.failed(rows, error) from error
        return await self.scorer.predict_each(rows, [made for _, made in valid])

    def _write(self, request: Request, answers: Sequence[Answered]) -> None:
        lines, refused = [], []
        made = iter(answers)
        for row, checked in zip(request.rows, request.checked, strict=True):
            answer = checked if isinstance(checked, Refusal) else next(made)
            if isinstance(answer, Refusal):
                refused.append(refused_line(row._replace(refusal=answer)))
            else:
                lines.append(self.encode(row, answer))
        draft = self.draft
        draft.add(lines, refused, rows=len(request.rows), count=len(refused))
        now = time.monotonic()
        is_time = now - self._kept_at >= _KEEP_SECONDS
        if is_time or draft.rows - self._kept_rows >= _KEEP_ROWS:
            draft.keep()
            self._kept_rows, self._kept_at = draft.rows, now
        self.progress.show(draft.rows, draft.refused)
