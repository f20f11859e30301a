"""``ask.py``, as `make image-check` runs it: what it asks, and when it exits with an error."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("ask.py")
REQUEST = {"instances": [{"left": 1}, {"left": 2}]}
READY = "/v2/health/ready"
WITHOUT_PREDICT: dict[str, Any] = {"paths": {}}
Answers = dict[str, tuple[int, Any]]


def document(**media_type: Any) -> dict[str, Any]:
    content = {"application/json": {"schema": {}, **media_type}}
    return {"paths": {"/predict": {"post": {"requestBody": {"content": content}}}}}


@contextmanager
def server(answers: Answers, bodies: list[Any]) -> Iterator[int]:
    """Answer a path with a status and JSON. ``bodies``: where those of requests go."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, answer = answers[self.path]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield listening.server_port
    listening.shutdown()
    listening.server_close()
    thread.join()


def run(answers: Answers) -> tuple[int, str, list[Any]]:
    """Return the exit code of the script, what it printed, and the bodies that it sent."""
    bodies: list[Any] = []
    with server(answers, bodies) as port:
        done = subprocess.run(  # noqa: S603 - our own script
            [sys.executable, str(SCRIPT), f"127.0.0.1:{port}"],
            capture_output=True,
            check=False,
            text=True,
            timeout=20,
        )
    return done.returncode, done.stdout + done.stderr, bodies


def test_the_example_of_the_document_is_asked() -> None:
    openapi = (200, document(example=REQUEST))
    answer = {"predictions": [{"sum": 3}, {"sum": 4}]}
    code, printed, bodies = run({"/openapi.json": openapi, "/predict": (200, answer)})
    assert (code, bodies) == (0, [REQUEST])
    assert json.loads(printed) == {"request": REQUEST, "answer": answer}

    code, printed, _ = run({"/openapi.json": openapi, "/predict": (200, {"predictions": [{}]})})
    assert code == 1
    assert "one prediction for each instance" in printed

    code, printed, _ = run({"/openapi.json": openapi, "/predict": (500, {"title": "a defect"})})
    assert code == 1
    assert "POST /predict: 500" in printed
    assert "a defect" in printed


def test_a_service_without_an_example_is_to_be_ready() -> None:
    for openapi in (document(), WITHOUT_PREDICT):
        for status in (200, 503):
            code, printed, bodies = run({"/openapi.json": (200, openapi), READY: (status, {})})
            assert (code, bodies) == (0 if status == 200 else 1, [])
            assert (f"GET {READY}: 503" in printed) is (status == 503)
            assert ("no examples" in printed) is (status == 200 and bool(openapi["paths"]))
