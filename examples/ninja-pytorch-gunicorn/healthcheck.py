"""Exit with 0 when the service beside this process is ready; imports little, for it runs often."""

import os
import socket
import sys

HOST = os.environ.get("SERVICE_HOST", "127.0.0.1")
# Kubernetes sets SERVICE_PORT=tcp://10.0.0.11:80 for a Service of the name 'service'.
GIVEN = [os.environ.get(name, "") for name in ("SERVICE_PORT", "AIP_HTTP_PORT", "PORT")]
PORT = next((int(port) for port in GIVEN if port.isdecimal()), 8000)
UNIX_SOCKET = os.environ.get("SERVICE_UNIX_SOCKET")
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
REQUEST = b"GET /v2/health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def ready() -> bool:
    host = LOOPBACK.get(HOST, HOST)
    address: str | tuple[str, int] = UNIX_SOCKET or (host, PORT)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if UNIX_SOCKET:
        family = socket.AF_UNIX
    # create_connection would import the IDNA codec, for as long as all the rest takes.
    connection = socket.socket(family)
    connection.settimeout(4)
    connection.connect(address)
    if os.environ.get("SERVICE_TLS_CERTIFICATE"):
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = context.wrap_socket(connection)
    with connection:
        connection.sendall(REQUEST)
        return b"".join(iter(lambda: connection.recv(4096), b"")).startswith(b"HTTP/1.1 200")


if __name__ == "__main__":
    try:
        sys.exit(0 if ready() else "not ready")
    except OSError as error:
        sys.exit(str(error))
