"""A stand-in for a phone with a camera app: a small HTTP server of motion JPEG."""

import base64
import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

PASSWORD = "s3cret-pa55"
BOUNDARY = "--phone"


class Phone(ThreadingHTTPServer):
    """Serves `/video`, a page at `/`, and what goes wrong: `/hang`, `/stall`, `/close`, `/once`, `/turn`, `/locked`,
    `/file`, `/damaged`, `/waking`, `/tiny`.

    Attributes:
        awake: whether it serves; else it refuses what comes and hangs up on what is there.
        served: how many connections have had pictures.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.awake = True
        self.served = 0
        self.ending = threading.Event()

    def address(self, path: str, user: str = "") -> str:
        return f"http://{user}{'@' if user else ''}127.0.0.1:{self.server_address[1]}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Phone

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        with contextlib.suppress(OSError):
            self._answer()

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        if not self.server.awake:
            return
        if path == "/hang":
            self.server.ending.wait(60)
        elif path == "/":
            self._send("text/html", b"<html>the app's page</html>" * 200)
        elif path == "/file":
            self._send("video/mpeg", self._clip())
        elif path == "/locked" and self.headers["Authorization"] != _basic(f"me:{PASSWORD}"):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="phone"')
            self.end_headers()
        elif path in ("/video", "/stall", "/close", "/turn", "/locked", "/damaged", "/waking", "/tiny"):
            self._stream(path)
        else:
            self.send_error(404)

    def _clip(self) -> bytes:
        from assets import ROOT

        return (ROOT / "driving" / "grid_bbaf2n.mpg").read_bytes()

    def _send(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, path: str) -> None:
        self.server.served += 1
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY[2:]}")
        self.end_headers()
        number = 0
        while self.server.awake and not self.server.ending.wait(1 / 30):
            size = (48, 48) if path == "/tiny" else (120, 160) if path != "/turn" or number < 20 else (160, 120)
            picture = np.full((*size, 3), (40, 120, 200), np.uint8)
            picture[:, : 2 + number % 40] = 250
            content = cv2.imencode(".jpg", picture)[1].tobytes()
            if (path == "/damaged" and number % 5 == 4) or (path == "/waking" and number < 20):
                content = content[:200] + bytes(100)
            self.wfile.write(
                f"{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n".encode()
            )
            self.wfile.write(content + b"\r\n")
            number += 1
            if path == "/close" and number == 20:
                return
            if path == "/stall" and number == 20:
                self.server.ending.wait(60)


def _basic(credentials: str) -> str:
    return "Basic " + base64.b64encode(credentials.encode()).decode()


@contextlib.contextmanager
def phone() -> Iterator[Phone]:
    """A phone on this computer, until the block ends."""
    server = Phone()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="phone")
    thread.start()
    try:
        yield server
    finally:
        server.ending.set()
        server.shutdown()
        server.server_close()
        thread.join()


def wait_for(condition: object, timeout_s: float = 20.0) -> None:
    assert callable(condition)
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come"
        time.sleep(0.02)
