"""The listening socket, and worker processes for servers that bring none of their own."""

import errno
import logging
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

from service.ops.process import EXIT_MARGIN, ending, fail, failure, on_stop
from service.ops.settings import Settings

SOCKET_MODE: Final = 0o660
"""Permissions of a Unix socket: its user and its group may connect."""

_POLL: Final = 0.25

log = logging.getLogger("service.supervisor")


def listen(host: str, port: int) -> socket.socket:
    """Bind a socket. It refuses connections until a server listens on it.

    Raises:
        OSError: the address is in use, or belongs to another machine.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def bind(settings: Settings) -> socket.socket:
    """Bind the socket of the service, a Unix socket where the settings have one.

    Raises:
        OSError: it cannot be used.
    """
    if settings.unix_socket is None:
        return listen(settings.host, settings.port)
    remove_stale(settings.unix_socket)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(settings.unix_socket))
        settings.unix_socket.chmod(SOCKET_MODE)  # nobody can connect yet
    except OSError:
        listener.close()
        raise
    return listener


def remove_stale(path: Path) -> None:
    """Remove the Unix socket of a service that has ended.

    Raises:
        OSError: there is another file, or a service still listens there.
    """
    if not path.exists():
        return
    if not path.is_socket():
        raise FileExistsError(errno.EEXIST, "the file is not a socket", str(path))
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), str(path))


def run(work: Callable[[Settings, socket.socket], None], settings: Settings) -> None:
    """Run ``work`` on a listening socket until the service has drained.

    A single worker runs in this process, several run in processes of their own. A worker that was
    killed is replaced; one that ends with an error ends the service.
    """
    listener = bind(settings)
    if settings.workers == 1:
        work(settings, listener)
        return
    stopped = threading.Event()
    on_stop(lambda *_: stopped.set(), settings.drain_delay)
    spawn = multiprocessing.get_context("spawn")
    running: list[BaseProcess] = []

    def start() -> None:
        worker = spawn.Process(target=work, args=(settings, listener))
        worker.start()
        running.append(worker)

    for _ in range(settings.workers):
        start()
    while not stopped.is_set():
        wait([worker.sentinel for worker in running], timeout=_POLL)
        for worker in [worker for worker in running if worker.exitcode is not None]:
            if ending():
                break
            running.remove(worker)
            if not worker.exitcode or worker.exitcode < 0:
                log.error("worker %d died (%s) and is replaced", worker.pid, worker.exitcode)
                start()
            elif failure() is None:
                fail(f"worker {worker.pid} ended with code {worker.exitcode}")
    listener.close()
    _end_workers(running, settings.graceful_timeout + 2 * EXIT_MARGIN)


def _end_workers(workers: list[BaseProcess], limit: float) -> None:
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + limit
    for worker in workers:
        worker.join(max(0, deadline - time.monotonic()))
        worker.kill()
