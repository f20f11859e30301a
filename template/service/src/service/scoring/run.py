"""A run: rows in, results out, in batches as large as the engine runs them.

While the model runs one batch, the next is made. A batch has as many rows as the model gets at a
time, none of them refused by their values. So the same rows run together whenever a run goes on:
its result is that of a run without interruption, to the last bit.
"""

import asyncio
import time
from collections import deque
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

_IN_FLIGHT: Final = 2
_MOST_REFUSED: Final = 1000
"""Refused rows that a batch may have besides."""
_KEEP_ROWS: Final = 50_000
_KEEP_SECONDS: Final = 10.0
"""So often the draft is brought to the disk."""


@dataclass
class Batch:
    """Rows, each with its instance or its refusal. ``size``: how many have instances.

    ``is_full``: whether they are as many as the model gets at a time.
    """

    rows: list[Row] = field(default_factory=list)
    checked: list[Checked] = field(default_factory=list)
    size: int = 0
    is_full: bool = False

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
    batch_size: int
    stopping: Callable[[], bool]
    _waiting: deque[tuple[Batch, "asyncio.Task[list[bytes]]"]] = field(default_factory=deque)
    _kept_rows: int = 0
    _kept_at: float = field(default_factory=time.monotonic)

    async def score(self, rows: Iterator[Row]) -> bool:
        """Score rows until there are none, and return whether it came so far.

        Raises:
            CannotScore: a row, or the file, ends the run.
        """
        self._kept_rows = self.draft.rows
        try:
            for batch in self._batches(rows):
                if self.stopping():
                    return False
                if not batch.is_full:  # it would share the model's batch with what waits
                    await self._settle(down_to=0)
                task = asyncio.create_task(self._predict(batch))
                self._waiting.append((batch, task))
                await self._settle(down_to=_IN_FLIGHT - 1 if batch.is_full else 0)
            await self._settle(down_to=0)
            return not self.stopping()
        finally:
            for _, task in self._waiting:
                task.cancel()
            await asyncio.gather(*(task for _, task in self._waiting), return_exceptions=True)
            self.draft.keep()

    def _batches(self, rows: Iterator[Row]) -> Iterator[Batch]:
        batch = Batch()
        while block := list(islice(rows, self.batch_size)):
            for row, checked in zip(block, self.scorer.check(block), strict=True):
                batch.rows.append(row)
                batch.checked.append(checked)
                batch.size += not isinstance(checked, Refusal)
                batch.is_full = batch.size == self.batch_size
                if batch.is_full or len(batch.rows) == self.batch_size + _MOST_REFUSED:
                    yield batch
                    batch = Batch()
        if batch.rows:
            yield batch

    async def _predict(self, batch: Batch) -> list[bytes]:
        return await self.scorer.predict([made for _, made in batch.valid]) if batch.size else []

    async def _settle(self, *, down_to: int) -> None:
        """Write the results of the oldest batches until so many are left."""
        while len(self._waiting) > down_to:
            batch, task = self._waiting[0]
            await asyncio.wait([task])
            answers: Sequence[Answered]
            if task.exception() is None:
                answers = task.result()
            else:
                answers = await self._predict_again(batch, task.exception())
            self._waiting.popleft()
            self._write(batch, answers)

    async def _predict_again(self, batch: Batch, error: BaseException | None) -> list[Answered]:
        """Predict for a batch that failed, while nothing else runs."""
        if others := [task for _, task in self._waiting]:
            await asyncio.wait(others)
        valid = batch.valid
        rows = [row for row, _ in valid]
        if isinstance(error, NotReady):
            raise self.scorer.failed(rows, error) from error
        return await self.scorer.predict_each(rows, [made for _, made in valid])

    def _write(self, batch: Batch, answers: Sequence[Answered]) -> None:
        lines, refused = [], []
        made = iter(answers)
        for row, checked in zip(batch.rows, batch.checked, strict=True):
            answer = checked if isinstance(checked, Refusal) else next(made)
            if isinstance(answer, Refusal):
                refused.append(refused_line(row._replace(refusal=answer)))
            else:
                lines.append(self.encode(row, answer))
        draft = self.draft
        draft.add(lines, refused, rows=len(batch.rows), count=len(refused))
        now = time.monotonic()
        is_time = now - self._kept_at >= _KEEP_SECONDS
        if is_time or draft.rows - self._kept_rows >= _KEEP_ROWS:
            draft.keep()
            self._kept_rows, self._kept_at = draft.rows, now
        self.progress.show(draft.rows, draft.refused)
