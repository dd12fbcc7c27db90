"""Decoded frames made fit to be looked at, by FFmpeg's filters."""

from collections.abc import Iterator

import av.error
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.frame import VideoFrame

_LEAST_WOVEN_PX = 4  # bwdif takes no less
# FFmpeg calls a PNG interlaced that is stored coarse to fine. Of its colour profile it keeps the name too, and PyAV
# frees that twice once somebody asks for a frame's side data, which ends the process.
_PNG = ("png", "apng")
_WITHOUT_PROFILE = ("sidedata", "mode=delete:type=ICC_PROFILE")
# Of the two fields of a frame each is filmed at a time of its own: what moves has combs. A frame of 1920 x 1080 takes
# 1.5 ms by bwdif, 3.3 ms by yadif; those that do not say that they are interlaced pass as they are.
_WHOLE = ("bwdif", "mode=send_frame:parity=auto:deint=interlaced")


class FrameFilters:
    """Takes a track's frames and gives them back, the same number at the same times.

    Two fields that are woven into one frame, as camcorders, capture cards and DVDs have them, become one picture of one
    time. From the first such frame on, each is given back when the next one has come.

    Args:
        codec: of the track, by FFmpeg's name.
    """

    def __init__(self, codec: str) -> None:
        self._is_png = codec in _PNG
        self._woven = False
        self._filter: _Filter | None = None

    def taken(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        """Take the next frame; give back what is ready."""
        self._woven |= frame.interlaced_frame
        if not (self._is_png or (self._woven and min(frame.width, frame.height) >= _LEAST_WOVEN_PX)):
            yield from self.rest()
            yield frame
            return
        if self._filter is None or not self._filter.takes(frame):
            yield from self.rest()
            self._filter = _Filter(frame, *(_WITHOUT_PROFILE if self._is_png else _WHOLE))
        yield from self._filter.taken(frame)

    def rest(self) -> Iterator[VideoFrame]:
        """Give back what is still held."""
        if self._filter is not None:
            yield from self._filter.taken(None)
            self._filter = None


class _Filter:
    """A filter for frames like the first."""

    def __init__(self, frame: VideoFrame, name: str, how: str) -> None:
        self._kind = _kind(frame)
        graph = Graph()
        self._first = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        middle = graph.add(name, how)
        self._last: FilterContext = graph.add("buffersink")
        self._first.link_to(middle)
        middle.link_to(self._last)
        graph.configure()
        self._graph = graph  # its parts do not keep it

    def takes(self, frame: VideoFrame) -> bool:
        """Whether a frame is like the first one."""
        return _kind(frame) == self._kind

    def taken(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """Take the next frame, or the end; give back what is ready."""
        self._first.push(frame)
        while True:
            try:
                ready = self._last.pull()
            except (av.error.BlockingIOError, av.error.EOFError):  # until there is more; at the end
                return
            assert isinstance(ready, VideoFrame)
            yield ready


def _kind(frame: VideoFrame) -> tuple[object, ...]:
    return frame.width, frame.height, frame.format.name, frame.time_base
