"""An application that sleeps, dies and fails at will, in place of the service's own."""

import asyncio
import ctypes
import os
import signal
import time
from pathlib import Path
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from service.ops import process
from service.ops.logs import configure_logging
from service.ops.settings import load_settings

RECORD = Path(os.environ["RECORD"])
MODE = os.environ.get("MODE", "")
(RECORD / f"imported-{os.getpid()}").touch()
if MODE == "import_error":
    time.sleep(float(os.environ.get("BEFORE", "0")))
    raise RuntimeError("broken on purpose")
if MODE == "slow_import":
    time.sleep(6)

configure_logging(load_settings())
COUNTER = Counter("answers", "Answers.")
WORKERS = Gauge("live_workers", "Workers.", multiprocess_mode="livesum")


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http":
        await http(scope, receive, send)
    else:
        await websocket(receive, send)


async def lifespan(receive, send):
    await receive()
    (RECORD / f"started-{os.getpid()}").touch()
    if MODE == "lifespan_fails":
        process.fail("the lifespan failed")
        await send({"type": "lifespan.startup.failed", "message": "failed on purpose"})
        return
    if MODE == "lifespan_raises":
        process.fail("the lifespan raised")
        raise RuntimeError("raised on purpose")
    if MODE == "load_fails":
        asyncio.get_running_loop().call_later(0.3, process.fail, "the model did not load")
    WORKERS.set(1)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    (RECORD / f"stopped-{os.getpid()}").touch()
    await send({"type": "lifespan.shutdown.complete"})


async def http(scope, receive, send):
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length += len(message.get("body", b""))
        more = message.get("more_body")
    query = parse_qs(scope["query_string"].decode())
    status, body = await answer(scope["path"], query, length)
    headers = [
        (b"content-type", b"text/plain"),
        (b"content-length", str(len(body)).encode()),
        (b"server", b"ours"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def websocket(receive, send):
    """Send one text back."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": (await receive())["text"]})
    await send({"type": "websocket.close"})


async def answer(path, query, length):
    if path == "/v2/health/ready":
        return (503, b"no") if process.draining() else (200, b"yes")
    if path == "/pid":
        COUNTER.inc()
        return 200, str(os.getpid()).encode()
    if path == "/length":
        return 200, str(length).encode()
    if path == "/slow":
        await asyncio.sleep(float(query["seconds"][0]))
        return 200, b"done"
    if path == "/block":
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)
    if path == "/hold":
        ctypes.PyDLL(None).sleep(60)
    if path == "/kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if path == "/metrics":
        registry = CollectorRegistry()
        if process.METRICS_DIRECTORY in os.environ:
            process.forget_dead_workers()
            MultiProcessCollector(registry)
        else:
            registry.register(COUNTER)
            registry.register(WORKERS)
        return 200, generate_latest(registry)
    return 404, b""
