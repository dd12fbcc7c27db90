"""What is told is plain JSON for every event, and docs/control.md tells all of it."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from app.control.facts import AppState, event_as_json, figures_as_json, gains_of, with_gains
from app.control.protocol import COMMANDS, GAINS, STATUS
from app.pipeline.camera_spec import CameraSpec
from app.pipeline.events import CameraFailed, CameraOpened, Event, Measured, MeasuringProgress, UnusedGpu
from app.pipeline.state import State
from app.pipeline.stats import Stats
from app.settings import DEFAULT_PORT, LiveSettings
from mcnet.bench.tiers import Tier, Timing
from mcnet.engine import Way

TEXT = (Path(__file__).parents[3] / "docs" / "control.md").read_text(encoding="utf-8")
SPEC = CameraSpec("network", address="http://me:secret@192.168.1.20/video")
KINDS: tuple[type[Any], ...] = get_args(Event)
PLAIN: dict[str, Any] = {"str": "x", "bool": True, "float": 0.5, "int": 1, "State": State.LIVE, "CameraSpec": SPEC}


def made(kind: type[Any]) -> Any:
    """An event of that kind, with something in each field."""
    if kind is Measured:
        tier = Tier(Timing(Way("cpu", "fp32", "torch"), 20.0))
        return Measured(tier, (UnusedGpu("a GPU", "its driver is missing"),))
    if kind is MeasuringProgress:
        return MeasuringProgress(0.5, Way("cpu", "fp32", "torch"))
    values = {}
    for one in dataclasses.fields(kind):
        name = str(getattr(one.type, "__name__", one.type))
        name = "float" if name.startswith("float") else "CameraSpec" if "CameraSpec" in name else name
        values[one.name] = ("x",) if name.startswith("tuple") else PLAIN[name]
    return kind(**values)


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_is_plain_and_documented(kind: type[Any]) -> None:
    told = event_as_json(made(kind))
    assert json.loads(json.dumps(told)) == told
    assert "secret" not in json.dumps(told)
    assert f"`{told['event']}`" in TEXT


def test_an_event_tells_what_has_happened() -> None:
    told = event_as_json(CameraFailed(SPEC, 3, SPEC.name, "it is gone", retry_s=0.5))
    assert told["event"] == "camera_failed"
    assert (told["message"], told["retry_s"], told["kept"]) == ("it is gone", 0.5, None)
    assert event_as_json(CameraOpened(SPEC, 3, SPEC.name, 640, 480, 30.0))["fps_hz"] == 30.0


def test_the_documentation_knows_every_field_command_code_and_figure() -> None:
    state = AppState(mode="headless").as_json()
    names = [*state, *COMMANDS, *GAINS, *STATUS, *figures_as_json(Stats(State.LIVE)), *(one.value for one in State)]
    assert [name for name in names if f"`{name}`" not in TEXT] == []
    for code, status in STATUS.items():
        assert re.search(rf"`{code}`[^|]*\| {status} \|", TEXT), code
    for name, help_ in COMMANDS.items():
        (row,) = re.findall(rf"^\| `{name}` \| (?!on|with)([^|]*)\|", TEXT, flags=re.MULTILINE)[:1] or [""]
        assert all(f"`{argument}`" in row for argument in help_.arguments), name
    assert f"127.0.0.1:{DEFAULT_PORT}/" in TEXT


def test_gains_are_strengths() -> None:
    live = with_gains(LiveSettings(), (("mouth", 1.5), ("motion", 0.0)))
    assert (live.mouth_strength, live.motion_strength) == (1.5, 0.0)
    assert gains_of(live) == {**dict.fromkeys(GAINS, 1.0), "mouth": 1.5, "motion": 0.0}
