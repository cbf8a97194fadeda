"""Servers on loopback that take what alerts send: webhooks and mails."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer


@contextmanager
def webhook(status: int = 200) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that takes webhooks: its URL, and what it got."""
    got: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/services/T0/secret", got
    server.shutdown()


@contextmanager
def mail_server() -> Iterator[tuple[int, list[str]]]:
    """A server that speaks as much SMTP as a sender needs: its port, and the mails it got."""
    got: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):  # the listener is closed with the block
            while True:
                converse(*listener.accept())

    def converse(connection: socket.socket, _: object) -> None:
        with connection, connection.makefile("rwb") as wire:

            def say(line: bytes) -> None:
                wire.write(line + b"\r\n")
                wire.flush()

            say(b"220 test")
            while line := wire.readline():
                if line.upper().startswith(b"DATA"):
                    say(b"354 go on")
                    lines = []
                    while (part := wire.readline()) != b".\r\n":
                        lines.append(part.decode())
                    got.append("".join(lines))
                say(b"221 bye" if line.upper().startswith(b"QUIT") else b"250 fine")

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1], got
    listener.close()
