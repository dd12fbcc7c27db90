"""Feeds the sinks at a steady rate on its own clock, so that a stall of the model never stops the camera of a call."""

import logging
import queue
import time
from collections.abc import Callable

from app.errors import SinkError
from app.pipeline.events import Event, SinkClosed, SinkFailed, SinkOpened, StageFailed, StageRecovered, StateChanged
from app.pipeline.output.output_frame import Composed, OutputFrame
from app.pipeline.output.presenter import Presenter
from app.pipeline.output.sinks import OutputFormat, Sink
from app.pipeline.slot import LatestSlot
from app.pipeline.state import State
from app.pipeline.stats import Meter
from app.settings import LiveSettings
from mcnet.errors import log_failure, sentence
from mcnet.phrases import phrase

logger = logging.getLogger(__name__)

_EARLY_SHARE = 0.75
_LEAN = 0.1
_LEAN_SHARE = 0.01  # of the time, in the long run: cameras are off by less
_LONGEST_ENDING_S = 10.0
_ENDING_POLL_S = 0.01


class Ticker:
    """A steady beat that lets a new frame go a little before its time.

    Beats lie on a grid of the period; a new frame may take the coming beat by up to 0.75 periods early, so that it
    waits for a quarter of one at most, and the mean rate stays as it is to 1 %. After a stall one picture goes at
    once and the grid starts anew: no burst, and a picture that costs a little more than a period costs no more than
    that.
    """

    def __init__(self, fps_hz: float, now_s: float) -> None:
        self._period_s = 1 / fps_hz
        self._due_s = now_s
        self._leaning_s = self._period_s

    def due_s(self, *, early: bool) -> float:
        """When the next picture is to go; `early`: a new frame is there."""
        return self._due_s - (_EARLY_SHARE * self._period_s if early else 0.0)

    def lean(self, waited_s: float) -> None:
        """A new frame had to wait so long: move the grid a little towards it.

        Where frames come as often as pictures go, they would otherwise wait the same time for ever. Where they come
        more often, one waits at every beat: the grid moves by a period at first, then by 1 % of the time.
        """
        step_s = min(_LEAN * waited_s, self._leaning_s)
        self._due_s -= step_s
        self._leaning_s -= step_s

    def went(self, now_s: float) -> None:
        """A picture went."""
        self._due_s = max(self._due_s + self._period_s, now_s)
        self._leaning_s = min(self._period_s, self._leaning_s + _LEAN_SHARE * self._period_s)


class SinkStage:
    """Presents and sends, picture by picture.

    Args:
        output: size and rate.
        frames: from the inference stage.
        preview: what was shown is left here for the window.
        presenter: decides what is shown.
        meter: for statistics.
        emit: told what happens.
    """

    def __init__(
        self,
        output: OutputFormat,
        frames: LatestSlot[OutputFrame],
        preview: LatestSlot[Composed],
        presenter: Presenter,
        meter: Meter,
        emit: Callable[[Event], None],
    ) -> None:
        self._output = output
        self._frames = frames
        self._preview = preview
        self._presenter = presenter
        self._meter = meter
        self._emit = emit
        self._requests: queue.SimpleQueue[Sink | str] = queue.SimpleQueue()
        self._sinks: dict[str, Sink] = {}
        self._ending: list[tuple[Sink, bool]] = []
        self._left: dict[str, str] = {}  # details of the sinks that the end closed, by name
        self._broken = False
        self.state = State.STARTING

    def add(self, sink: Sink) -> None:
        """Wish for a sink; any thread."""
        self._requests.put(sink)

    def remove(self, name: str) -> None:
        """Wish a sink away; any thread."""
        self._requests.put(name)

    def run(
        self, stopped: Callable[[], bool], settings: Callable[[], LiveSettings], faulty: Callable[[], bool]
    ) -> None:
        """The thread's body: until `stopped`, with the settings in force at each picture."""
        ticker = Ticker(self._output.fps_hz, time.monotonic())
        try:
            while not stopped():
                while not self._requests.empty():
                    self._serve(self._requests.get())
                self._tend()
                frame = self._wait(ticker)
                self._show(frame, settings(), fault=faulty())
                ticker.went(time.monotonic())
        finally:
            self._close_all()
            deadline_s = time.monotonic() + _LONGEST_ENDING_S
            while self._ending and time.monotonic() < deadline_s:
                self._tend()
                time.sleep(_ENDING_POLL_S)
            self._give_up_endings()
            self.give_up_requests()
            self._presenter.close()

    def give_up_requests(self) -> None:
        """Answer the wishes that came too late to be served; once `run` has ended, or if it never began."""
        wished: dict[str, Sink] = {}
        while not self._requests.empty():
            request = self._requests.get()
            if not isinstance(request, str):
                wished[request.name] = request
            elif (sink := wished.pop(request, None)) is not None:
                self._emit(SinkClosed(request, sink.detail))
            elif request in self._left:  # of it was told that the next start opens it again
                self._emit(SinkClosed(request, self._left.pop(request)))

    def _wait(self, ticker: Ticker) -> OutputFrame | None:
        """Sleep until the next picture is due; a frame that comes meanwhile may shorten the wait."""
        came = self._frames.wait(max(0.0, ticker.due_s(early=False) - time.monotonic()))
        left_s = ticker.due_s(early=came) - time.monotonic()
        if left_s > 0:
            time.sleep(left_s)
            if came:
                ticker.lean(left_s)
        return self._frames.take(0.0)

    def _show(self, frame: OutputFrame | None, settings: LiveSettings, *, fault: bool) -> None:
        began_s = time.monotonic()
        picture = self._present(frame, settings, began_s, fault=fault)
        composed_s = time.monotonic()
        if picture.state is not self.state:
            self.state = picture.state
            self._emit(StateChanged(self.state, self._presenter.why))
        for name, sink in list(self._sinks.items()):
            self._send(name, sink, picture)
        self._preview.put(picture)
        ended_s = time.monotonic()
        self._meter.stage("compose", ended_s, composed_s - began_s)
        self._meter.stage("send", ended_s, ended_s - composed_s)
        self._meter.picture(ended_s, picture.captured_s, fresh=picture.fresh)

    def _present(self, frame: OutputFrame | None, settings: LiveSettings, now_s: float, *, fault: bool) -> Composed:
        try:
            picture = self._presenter.present(frame, settings, now_s, fault=fault)
        except Exception as error:  # the call goes on, with the slate
            if not self._broken:
                self._broken = True
                log_failure(logger, "presenting", error)
                self._emit(StageFailed("presenting", sentence(error)))
            return self._presenter.last_resort(now_s)
        if self._broken:
            self._broken = False
            self._emit(StageRecovered("presenting"))
        return picture

    def _send(self, name: str, sink: Sink, picture: Composed) -> None:
        try:
            sink.send(picture)
        except SinkError as error:
            self._fail(name, str(error))
        except Exception as error:  # one sink's fault must not take the others down
            log_failure(logger, f"sink {name}", error)
            self._fail(name, phrase("{name} failed: {reason}", name=name, reason=sentence(error)))

    def _fail(self, name: str, message: str) -> None:
        sink = self._sinks.pop(name)
        self._emit(SinkFailed(name, message))
        try:
            sink.close()
        except SinkError as error:
            logger.warning("%s could not be closed after its failure: %s", name, error)
        except Exception as error:
            log_failure(logger, f"closing sink {name}", error)

    def _serve(self, request: Sink | str) -> None:
        if isinstance(request, str):
            if request in self._sinks:
                self._close(request)
            return
        if request.name in self._sinks:
            self._close(request.name)
        try:
            request.open(self._output)
        except SinkError as error:
            self._emit(SinkFailed(request.name, str(error)))
        except Exception as error:
            log_failure(logger, f"opening sink {request.name}", error)
            self._emit(
                SinkFailed(
                    request.name,
                    phrase("{name} cannot be opened: {reason}", name=request.name, reason=sentence(error)),
                )
            )
        else:
            self._sinks[request.name] = request
            self._emit(SinkOpened(request.name, request.detail))

    def _close(self, name: str, *, asked: bool = True) -> None:
        sink = self._sinks.pop(name)
        try:
            sink.close()
        except Exception as error:
            log_failure(logger, f"closing sink {name}", error)
            self._emit(
                SinkFailed(name, phrase("{name} could not be closed: {reason}", name=name, reason=sentence(error)))
            )
        else:
            self._ending.append((sink, asked))
            self._tend()

    def _close_all(self) -> None:
        late: list[Sink | str] = []
        while not self._requests.empty():
            request = self._requests.get()
            if isinstance(request, str) and request in self._sinks:
                self._close(request)
            else:
                late.append(request)
        for request in late:
            self._requests.put(request)
        self._left = {name: sink.detail for name, sink in self._sinks.items()}
        for name in reversed(list(self._sinks)):
            self._close(name, asked=False)

    def _give_up_endings(self) -> None:
        for sink, _ in self._ending:
            text = phrase(
                "{file} was not finished within {seconds:g} s: leave its disk connected, and see later if it plays",
                file=sink.detail or sink.name,
                seconds=_LONGEST_ENDING_S,
            )
            self._emit(SinkFailed(sink.name, text))
        self._ending.clear()

    def _tend(self) -> None:
        """Tell of the sinks that have come to their end."""
        for ending in list(self._ending):
            sink, asked = ending
            try:
                if not sink.finished():
                    continue
                event: Event = SinkClosed(sink.name, sink.detail, asked)
            except SinkError as error:
                event = SinkFailed(sink.name, str(error))
            except Exception as error:  # one sink's fault must not take the others down
                log_failure(logger, f"finishing sink {sink.name}", error)
                event = SinkFailed(
                    sink.name,
                    phrase("{name} could not be finished: {reason}", name=sink.name, reason=sentence(error)),
                )
            self._ending.remove(ending)
            self._emit(event)
