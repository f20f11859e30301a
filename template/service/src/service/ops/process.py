"""The processes of one service: what they share, how a worker starts, and how they end in order.

They share a directory with the drain flag, the first failure, the workers on probation and the
metrics. The main process makes it before it starts the server, and the workers find it through the
environment. Without the directory, because a server's own command line started the application, a
process answers for itself alone.
"""

import contextlib
import importlib
import logging
import math
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

from service.ops.logs import configure_logging
from service.ops.settings import Settings

METRICS_DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"

APPLICATION: Final = "service.main:app"
"""The application that every server runs."""

_DIRECTORY: Final = "_SERVICE_PROCESS_DIRECTORY"
_MAIN_PID: Final = "_SERVICE_MAIN_PID"
_HOSTED: Final = "_SERVICE_HOSTED"
_POLL: Final = 0.25
_PROBATION: Final = 60
"""Seconds that a worker must be ready before the deaths of others before it are forgotten."""
_MAX_DEATHS: Final = 5
_LONGEST_MESSAGE: Final = 2000
_IS_WINDOWS: Final = sys.platform == "win32"
"""There `os.kill` ends another process, without its handlers, whatever the signal."""
EXIT_MARGIN: Final = 1.5
"""Seconds from the end of the graceful timeout to the end of the process."""

log = logging.getLogger("service.process")


class CannotStart(Exception):
    """The service cannot start. The text is one line and says why."""


@contextlib.contextmanager
def prepare(workers: int) -> Iterator[Path]:
    """Make the shared directory, and name it in the environment of this and all child processes."""
    with tempfile.TemporaryDirectory(prefix="service-") as name:
        os.environ[_DIRECTORY] = name
        os.environ[_MAIN_PID] = str(os.getpid())
        os.environ.pop(METRICS_DIRECTORY, None)
        # prometheus-client reads this variable once, when it is imported. So nothing may import
        # `service.ops.metrics` before; that is why the main process imports so little.
        if workers > 1:
            metrics = Path(name, "metrics")
            metrics.mkdir()
            os.environ[METRICS_DIRECTORY] = str(metrics)
        try:
            yield Path(name)
        finally:
            for variable in (_DIRECTORY, _MAIN_PID, METRICS_DIRECTORY):
                os.environ.pop(variable, None)


@contextlib.contextmanager
def hosted() -> Iterator[None]:
    """Let this be the only process of a service which another program starts, watches and ends.

    `fail` and `leave` record the reason alone: that program looks at `failure`.
    """
    with prepare(1):
        os.environ[_HOSTED] = "1"
        try:
            yield
        finally:
            os.environ.pop(_HOSTED, None)


def is_main() -> bool:
    """Return whether this is the main process, which may be the only one."""
    return os.getpid() == _main_pid()


def start_draining() -> None:
    """Make every worker report that it is not ready."""
    if flag := _path("draining"):
        flag.touch()


def draining() -> bool:
    """Return whether the service is shutting down."""
    flag = _path("draining")
    return flag is not None and flag.exists()


def ending() -> bool:
    """Return whether the drain delay is over, so that the main process ends the workers."""
    flag = _path("ending")
    return flag is not None and flag.exists()


def report_ready() -> None:
    """Record that the model of this worker is ready."""
    if record := _path(f"ready-{os.getpid()}"):
        record.touch()


def all_ready(workers: int) -> bool:
    """Return whether all live workers are ready, and there are as many as configured.

    A connection may reach any of them, so the service is ready when the last one is.
    """
    directory = _path("")
    if workers == 1 or directory is None:
        return True
    return sum(_is_alive(record) for record in directory.glob("ready-*")) >= workers


def fail(message: str) -> None:
    """Record why this worker cannot serve, and make the main process end the service.

    ``message`` becomes one line, and is cut where it is longer than an error should be.
    """
    message = " ".join(message.split())
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[:_LONGEST_MESSAGE]}…"
    if record := _path("failure"):
        draft = record.with_suffix(f".{os.getpid()}")
        draft.write_text(message, encoding="utf-8")
        draft.replace(record)
    if _HOSTED in os.environ or (_IS_WINDOWS and not is_main()):
        return  # who watches this process finds the record
    _terminate(_main_pid())


def leave(reason: str, limit: float) -> None:
    """End this worker, which can serve no more; the server replaces it.

    It finishes its requests first. After ``limit`` seconds the system ends it, whatever it does.
    The only process of a service ends the service.
    """
    if is_main():
        fail(reason)
        return
    if ready := _path(f"ready-{os.getpid()}"):
        ready.unlink(missing_ok=True)
    if (record := _path(f"probation-{os.getpid()}")) and record.exists():
        record.write_text(reason, encoding="utf-8")
    if hasattr(signal, "alarm"):  # not on Windows
        signal.alarm(math.ceil(limit + EXIT_MARGIN))
    _terminate(os.getpid())


def failure() -> str | None:
    """Return the message that a worker recorded with `fail`, if any did."""
    record = _path("failure")
    return record.read_text(encoding="utf-8") if record and record.exists() else None


def deaths() -> str | None:
    """Return how many workers died one after the other, and why; None if none did."""
    dead = _dead_on_probation()
    if not dead:
        return None
    reasons = [text for file in dead if (text := _read(file))]
    reason = reasons[-1] if reasons else "they were killed, or ended themselves"
    noun = "worker" if len(dead) == 1 else "workers"
    return f"{len(dead)} {noun} died within a minute of being ready: {reason}"


def exit_code() -> int:
    """Return the exit code of the main process: 0 if it was asked to stop and nothing failed."""
    return 0 if draining() and failure() is None else 1


def on_stop(stop: Callable[[int, FrameType | None], object], delay: float) -> None:
    """On SIGTERM, SIGINT or SIGHUP report not ready, and call ``stop`` after ``delay`` seconds.

    ``stop`` is called at once after a failure, at a second signal, and in a worker, since the main
    process has waited already. It takes the arguments of a signal handler, always with SIGTERM, and
    may be called repeatedly and from another thread.
    """

    def end(frame: FrameType | None = None) -> None:
        if is_main() and (flag := _path("ending")):
            flag.touch()
        stop(signal.SIGTERM, frame)

    def drain(_number: int, frame: FrameType | None) -> None:
        at_once = not delay or draining() or failure() is not None
        if is_main():
            start_draining()
        if at_once or not is_main():
            end(frame)
        else:
            timer = threading.Timer(delay, end)
            timer.daemon = True
            timer.start()

    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), drain)
    if _IS_WINDOWS and is_main():
        threading.Thread(target=_end_on_failure, args=(end,), name="failure", daemon=True).start()


def _end_on_failure(end: Callable[[], None]) -> None:
    while failure() is None:
        time.sleep(_POLL)
    start_draining()
    end()


def _terminate(pid: int) -> None:
    """Send SIGTERM to a process."""
    if _IS_WINDOWS and pid == os.getpid():
        signal.raise_signal(signal.SIGTERM)
    else:
        os.kill(pid, signal.SIGTERM)


def load_application(settings: Settings) -> Any:
    """Import the application, in the process that is going to serve it.

    If that fails, end the service: a new worker would fail in the same way. From now on the process
    ends when the time to drain is over, even if something still runs in it. A worker also ends when
    its main process is gone, and leaves Ctrl-C to that process. The more workers died before it one
    after the other, the later it starts.
    """
    configure_logging(settings)  # the process may be a new one
    if not is_main() and hasattr(os, "setpgrp"):
        os.setpgrp()
    limit = settings.drain_delay + settings.graceful_timeout + EXIT_MARGIN
    threading.Thread(target=_end_in_time, args=(limit,), name="end", daemon=True).start()
    if not is_main():
        _begin_probation()
    module, _, name = APPLICATION.partition(":")
    try:
        application = getattr(importlib.import_module(module), name)
    except CannotStart as error:
        fail(str(error))
        raise SystemExit(1) from error
    except BaseException as error:
        if draining():  # a handler of the signal may have raised it
            raise
        log.exception("the application cannot be imported")
        cause = f"{type(error).__name__}: {error}".partition("\n")[0]
        fail(f"the application cannot be imported: {_where(error)}{cause}")
        raise SystemExit(1) from error
    if ending():  # the signal may have come before this process could handle it
        raise SystemExit(0)
    return application


def _begin_probation() -> None:
    """Put this worker on probation until it has been ready for a while.

    The more workers died before it, the later it starts; after too many, the service ends. A worker
    that dies on probation leaves its file, in which it may have written why.
    """
    record = _path(f"probation-{os.getpid()}")
    if record is None or _IS_WINDOWS:  # which cannot tell whether a process is alive
        return
    dead = _dead_on_probation()
    record.touch()
    if len(dead) >= _MAX_DEATHS:
        fail(deaths() or "")
        raise SystemExit(1)
    if len(dead) > 1:
        delay = 2 ** (len(dead) - 2)
        log.warning("the next worker starts in %d s: %s", delay, deaths())
        until = time.monotonic() + delay
        while time.monotonic() < until and not ending():
            time.sleep(_POLL / 5)


def _dead_on_probation() -> list[Path]:
    directory = _path("")
    files = directory.glob("probation-*") if directory else ()
    return [file for file in files if not _is_alive(file)]


def _end_probation() -> None:
    """Forget the workers that died, once this one has been ready for a while."""
    record, ready = _path(f"probation-{os.getpid()}"), _path(f"ready-{os.getpid()}")
    if not (record and ready and record.exists() and ready.exists()):
        return
    if time.time() - ready.stat().st_mtime < _PROBATION:
        return
    for file in (record, *_dead_on_probation()):
        file.unlink(missing_ok=True)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _where(error: BaseException) -> str:
    """Return the last line of the service's own code that an error passed."""
    package = Path(__file__).parents[1]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(package) and path != Path(__file__):
            return f"{path.relative_to(package.parent).as_posix()}, line {frame.lineno}: "
    return ""


def forget_dead_workers() -> None:
    """Remove the gauges of dead workers from the metrics; their counters stay."""
    for file in Path(os.environ[METRICS_DIRECTORY]).glob("gauge_live*_*.db"):
        if not _is_alive(file):
            file.unlink(missing_ok=True)


def workers() -> set[int]:
    """Return the process ids of the live workers, from the names of their gauges' files."""
    gauges = Path(os.environ[METRICS_DIRECTORY]).glob("gauge_live*_*.db")
    return {_pid(file) for file in gauges if _is_alive(file)}


def _pid(file: Path) -> int:
    return int(file.stem.replace("-", "_").rpartition("_")[2])


def _is_alive(file: Path) -> bool:
    """Return whether the process with the id at the end of the file's name is alive."""
    try:
        os.kill(_pid(file), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _main_pid() -> int:
    return int(os.environ.get(_MAIN_PID, os.getpid()))


def _path(name: str) -> Path | None:
    directory = os.environ.get(_DIRECTORY)
    return Path(directory, name) if directory else None


def _end_in_time(limit: float) -> None:
    while not draining():
        if not is_main() and os.getppid() != _main_pid():
            _terminate(os.getpid())
            break
        _end_probation()
        time.sleep(_POLL)
    time.sleep(limit)
    log.error("process %d is still busy and is ended", os.getpid())
    code = exit_code()
    if is_main():
        shutil.rmtree(os.environ.get(_DIRECTORY, ""), ignore_errors=True)
    os._exit(code)
