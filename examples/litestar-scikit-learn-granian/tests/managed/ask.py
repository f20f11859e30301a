"""Ask a running service with the examples of its own OpenAPI document.

Usage: python tests/managed/ask.py [HOST[:PORT] | unix:SOCKET]
"""

import json
import socket
import sys
from http.client import HTTPConnection
from typing import Any

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8000"
UNIX = ADDRESS.removeprefix("unix:") if ADDRESS.startswith("unix:") else ""


def ask(method: str, path: str, body: object = None) -> Any:
    """Send a request and return the JSON of its answer, which must be a success."""
    connection = HTTPConnection("localhost" if UNIX else ADDRESS, timeout=60)
    if UNIX:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(UNIX)
    headers = {"Content-Type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    answer = response.read().decode()
    connection.close()
    if response.status != 200:
        sys.exit(f"{method} {path}: {response.status} {answer}")
    return json.loads(answer)


def main() -> None:
    document = ask("GET", "/openapi.json")
    if "/predict" not in document["paths"]:
        print(ask("GET", "/v2/health/ready"))
        return
    content = document["paths"]["/predict"]["post"]["requestBody"]["content"]
    request = content["application/json"].get("example")
    if request is None:
        print("the schema of Instance has no examples", ask("GET", "/v2/health/ready"))
        return
    answer = ask("POST", "/predict", request)
    print(json.dumps({"request": request, "answer": answer}, indent=2))
    if len(answer["predictions"]) != len(request["instances"]):
        sys.exit("one prediction for each instance was expected")


if __name__ == "__main__":
    main()
