"""Everything that can be asked from outside, asked of a pipeline through the real server."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from app.control.access import Access
from app.control.pipeline_operator import PipelineOperator
from app.control.protocol import COMMANDS
from app.control.server import ControlServer
from app.pipeline.events import Event
from app.pipeline.output.output_frame import Composed
from app.pipeline.output.recorder import RecorderSink
from app.pipeline.pipeline import Pipeline
from app.pipeline.portraits import Portrait, bundled_portraits
from app.pipeline.state import State
from app.presets import Presets
from tests.app.control.asking import ask
from tests.app.fakes import wait_until

EVERY_COMMAND: tuple[tuple[str, str], ...] = (
    ("live", ""),
    ("portrait", '{"name": "woman_2"}'),
    ("portrait", '{"step": 1}'),
    ("gains", '{"motion": 2, "mouth": 2, "lids": 0}'),
    ("preset", '{"name": "standard"}'),
    ("gains", '{"motion": 2, "mouth": 2, "lids": 0}'),
    ("retouch", ""),
    ("retouch", '{"to": "on"}'),
    ("retouch", '{"to": "off"}'),
    ("detail", ""),
    ("detail", '{"to": "on"}'),
    ("record", '{"to": "on"}'),
    ("calibrate", '{"now": true}'),
    ("calibrate", ""),
    ("stop", ""),
    ("slate", '{"to": "off"}'),
    ("slate", '{"to": "toggle"}'),
    ("slate", '{"to": "toggle"}'),
    ("record", '{"to": "off"}'),
    ("slate", ""),
)
"""In this order, so that the slate goes and comes in between; the last one leaves it up."""

Hearers = list[Callable[[Event], None]]


def controlled(
    pipeline: Pipeline, portrait: Portrait, folder: Path, hearers: Hearers
) -> tuple[PipelineOperator, ControlServer]:
    """A server for a pipeline. Its gallery's portraits are the given one under other names."""

    def prepare(entry: Any) -> Portrait:
        return dataclasses.replace(portrait, entry=entry)

    operator = PipelineOperator(
        pipeline, bundled_portraits, prepare, RecorderSink, lambda: folder / "videos", portrait, Presets()
    )
    operator.open()
    server = ControlServer(operator, Access(folder / "control"), operator.state)
    operator.on_state = server.show
    hearers += [operator.hear, server.tell]
    return operator, server


def drive_every_command(
    pipeline: Pipeline, portrait: Portrait, folder: Path, hearers: Hearers, pictures: Sequence[Composed]
) -> None:
    """Ask for everything, and see that the slate is there when it was asked for, and goes again."""
    assert {name for name, _ in EVERY_COMMAND} == set(COMMANDS)
    operator, server = controlled(pipeline, portrait, folder, hearers)
    server.start(0)
    try:
        given = {"Authorization": f"Bearer {Access(folder / 'control').token()}"}
        for name, body in EVERY_COMMAND:
            status, answer = ask(server.port, "POST", f"/v1/commands/{name}", body, given)
            assert (status, answer["ok"]) == (200, True), answer
        slated = len(pictures)
        wait_until(lambda: len(pictures) > slated + 6, "pictures go on")
        assert {picture.state for picture in pictures[slated + 2 :]} == {State.SLATE}
        assert ask(server.port, "POST", "/v1/commands/live", None, given)[0] == 200
        wait_until(lambda: pictures[-1].state is not State.SLATE, "the slate has gone")
        state = ask(server.port, "GET", "/v1/state", None, given)[1]
        assert state["retouch"] is False
        assert state["fine_detail"] is True
        assert state["gains"] | {"motion": 2.0, "mouth": 2.0, "lids": 0.0} == state["gains"]
    finally:
        assert server.stop()
        operator.close()
        hearers.clear()
