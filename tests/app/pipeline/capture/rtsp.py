"""A stand-in for a camera that speaks RTSP: a small relay over TCP, and FFmpeg, through PyAV, that sends to it."""

import contextlib
import itertools
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.video.stream import VideoStream

SIZE_PX = (160, 120)
COLOUR = (200, 120, 40)


class Relay(socketserver.ThreadingTCPServer):
    """Passes on what is announced to it, to everybody who plays it."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.description = b""
        self.players: list[socket.socket] = []
        self.sending = False
        self.ending = threading.Event()

    @property
    def address(self) -> str:
        return f"rtsp://127.0.0.1:{self.server_address[1]}/live"

    def hang_up(self) -> None:
        for player in self.players:
            with contextlib.suppress(OSError):
                player.shutdown(socket.SHUT_RDWR)
        self.players.clear()


class _Connection(socketserver.StreamRequestHandler):
    server: Relay

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while not self.server.ending.is_set() and (first := self.rfile.read(1)):
                if first == b"$":
                    self._pass_on()
                else:
                    self._answer(first + self.rfile.readline())

    def _pass_on(self) -> None:
        header = self.rfile.read(3)
        self.server.sending = True
        packet = b"$" + header + self.rfile.read(int.from_bytes(header[1:], "big"))
        for player in list(self.server.players):
            with contextlib.suppress(OSError):
                player.sendall(packet)

    def _answer(self, request: bytes) -> None:
        headers = {}
        while line := self.rfile.readline().strip():
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip()
        body = self.rfile.read(int(headers.get(b"content-length", b"0")))
        method = request.split()[0]
        extra = content = b""
        if method == b"ANNOUNCE":
            self.server.description = body
        elif method == b"DESCRIBE":
            content = self.server.description
            extra = b"Content-Type: application/sdp\r\n"
        elif method == b"SETUP":
            extra = b"Transport: " + headers[b"transport"] + b"\r\nSession: 1\r\n"
        elif method == b"OPTIONS":
            extra = b"Public: DESCRIBE, ANNOUNCE, SETUP, PLAY, RECORD, TEARDOWN\r\n"
        self.wfile.write(
            b"RTSP/1.0 200 OK\r\nCSeq: %b\r\nSession: 1\r\n%bContent-Length: %d\r\n\r\n%b"
            % (headers[b"cseq"], extra.replace(b"Session: 1\r\n", b""), len(content), content)
        )
        if method == b"PLAY":
            self.server.players.append(self.connection)


@contextlib.contextmanager
def rtsp_camera() -> Iterator[Relay]:
    """A camera on this computer that sends H.264 at 25 frames/s, until the block ends."""
    with Relay() as relay:
        thread = threading.Thread(target=relay.serve_forever, args=(0.02,), name="relay")
        thread.start()
        # A process of its own: PyAV keeps Python's lock while it waits for what this process has to answer.
        sender = subprocess.Popen([sys.executable, "-m", __name__, relay.address])
        try:
            deadline_s = time.monotonic() + 20
            while not relay.sending:
                assert time.monotonic() < deadline_s, "nothing is sent"
                time.sleep(0.02)
            yield relay
        finally:
            sender.kill()
            sender.wait()
            relay.ending.set()
            relay.hang_up()
            relay.shutdown()
            thread.join()


def send(address: str) -> None:
    """Send pictures to a relay without end."""
    options = {"tune": "zerolatency", "g": "5", "preset": "ultrafast"}
    with av.open(address, "w", format="rtsp", options={"rtsp_transport": "tcp"}) as output:
        stream = output.add_stream("libx264", rate=25, options=options)
        assert isinstance(stream, VideoStream)
        (stream.width, stream.height), stream.pix_fmt = SIZE_PX, "yuv420p"
        picture = np.full((SIZE_PX[1], SIZE_PX[0], 3), COLOUR, np.uint8)
        for number in itertools.count():
            shown = picture.copy()
            shown[:, : 2 + number % 40] = 250
            frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
            time.sleep(1 / 25)


if __name__ == "__main__":
    send(sys.argv[1])
