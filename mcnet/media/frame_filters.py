"""Decoded frames made fit to be looked at, by FFmpeg's filters."""

from collections.abc import Iterator

import av.error
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.frame import VideoFrame

_LEAST_WOVEN_PX = 4  # bwdif takes no less
# Of a PNG's colour profile FFmpeg keeps the name too, and PyAV frees it twice once somebody asks for a frame's side
# data, which ends the process.
_NAMES_PROFILES = ("png", "apng")
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
        self._always = [_WITHOUT_PROFILE] if codec in _NAMES_PROFILES else []
        self._woven = False
        self._chain: _Chain | None = None

    def taken(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        """Take the next frame; give back what is ready."""
        self._woven |= frame.interlaced_frame and min(frame.width, frame.height) >= _LEAST_WOVEN_PX
        filters = [*self._always, *([_WHOLE] if self._woven else [])]
        if not filters:
            yield frame
            return
        if self._chain is None or not self._chain.takes(frame, len(filters)):
            yield from self.rest()
            self._chain = _Chain(frame, filters)
        yield from self._chain.taken(frame)

    def rest(self) -> Iterator[VideoFrame]:
        """Give back what is still held."""
        if self._chain is not None:
            yield from self._chain.taken(None)
            self._chain = None


class _Chain:
    """Filters, one behind the other, for frames like the first."""

    def __init__(self, frame: VideoFrame, filters: list[tuple[str, str]]) -> None:
        self._kind = _kind(frame, len(filters))
        graph = Graph()
        self._first = last = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        for name, how in filters:
            following = graph.add(name, how)
            last.link_to(following)
            last = following
        self._last: FilterContext = graph.add("buffersink")
        last.link_to(self._last)
        graph.configure()
        self._graph = graph  # the filters do not keep it

    def takes(self, frame: VideoFrame, count: int) -> bool:
        """Whether a frame is like the first one, and needs so many filters."""
        return _kind(frame, count) == self._kind

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


def _kind(frame: VideoFrame, count: int) -> tuple[object, ...]:
    return frame.width, frame.height, frame.format.name, frame.time_base, count
