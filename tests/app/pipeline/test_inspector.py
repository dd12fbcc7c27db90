"""The process that looks inside the network, for real."""

import dataclasses
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import Pipe
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from app.errors import AppError
from app.pipeline import inspector
from app.pipeline.inspector import Artist, InspectorProcess, Posed, Request
from mcnet.checkpoint import load_model, save_model
from mcnet.config import McnetConfig
from mcnet.engine import Engine, EngineOptions, open_model
from mcnet.generator import Mcnet
from mcnet.inspection import LiveView
from mcnet.model_file import ModelInfo, content_hash
from tests.app.fakes import wait_until
from tests.released import load_case

VIEWS: tuple[LiveView, ...] = get_args(LiveView)
WIDE = ("features", "attention")


@pytest.fixture
def model(tmp_path: Path) -> str:
    torch.manual_seed(0)
    save_model(Mcnet(McnetConfig.named("tiny"), ModelInfo(name="tiny")), tmp_path / "tiny.safetensors")
    return str(tmp_path / "tiny.safetensors")


def fingerprint(model: str) -> str:
    """As the engine's."""
    return f"{content_hash(load_model(model).state_dict())}/torch.float32"


@pytest.fixture
def posed(model: str) -> Posed:
    points = np.random.default_rng(0).uniform(-0.6, 0.6, (5, 2))
    jacobians = np.tile(np.eye(2), (5, 1, 1))
    square = load_case("starter_case")["source"]
    return Posed(square, points, jacobians, points + 0.1, jacobians, measured=False, fingerprint=fingerprint(model))


@pytest.fixture
def process(model: str) -> Iterator[InspectorProcess]:
    made = InspectorProcess(model)
    yield made
    made.close()


def test_it_draws_what_the_plain_model_computes_and_tells_when_its_process_is_gone(
    process: InspectorProcess, model: str, posed: Posed
) -> None:
    request = Request(posed, VIEWS, (0.5, 0.64), 96)
    pictures, busy_s = process.draw(request)
    assert busy_s > 0
    here = Artist(model).draw(request)
    for view, there, expected in zip(VIEWS, pictures, here, strict=True):
        assert there.shape == (96, 192 if view in WIDE else 96, 3)
        assert there.dtype == np.uint8
        if view not in WIDE:  # principal components and a peak may turn over with the last bit
            assert np.abs(there.astype(int) - expected).mean() < 1, view
    moved = process.draw(request._replace(posed=posed._replace(driving_value=posed.driving_value + 0.1))).pictures
    assert np.abs(moved[0].astype(int) - pictures[0]).mean() > 1
    other = process.draw(request._replace(posed=posed._replace(square=255 - posed.square))).pictures
    warped = VIEWS.index("warped")
    assert np.abs(other[warped].astype(int) - pictures[warped]).mean() > 20
    assert process._process is not None
    process._process.kill()
    process._process.join()
    with pytest.raises(AppError, match="has ended"):
        process.draw(request)


def test_it_sees_the_portrait_as_the_engine_does(model: str, posed: Posed) -> None:
    square = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)  # larger than the model's pictures
    engine = Engine(open_model(model), EngineOptions(device="cpu", precision="fp32", backend="torch"))
    engine.set_source(square)
    assert engine.source is not None
    seen = Artist(model).see(posed._replace(square=square))
    np.testing.assert_array_equal(seen.cache.picture.numpy(), engine.source.picture)


def gone(pid: int) -> bool:
    """Whether a process ends, and is waited for, within half a minute."""
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def test_it_stands_back_and_ends_whoever_waits_for_it(process: InspectorProcess, posed: Posed) -> None:
    """It is closed while it loads torch, which takes it seconds, and while somebody waits for its first picture."""
    request = Request(posed, ("flow",), (0.5, 0.5), 64)
    told: list[str] = []

    def wait() -> None:
        try:
            process.draw(request)
        except AppError as error:
            told.append(str(error))

    waiting = threading.Thread(target=wait)
    waiting.start()
    wait_until(lambda: process._process is not None, "it is started", 60.0)
    assert process._process is not None
    pid = process._process.pid
    assert pid is not None
    if sys.platform == "linux":
        wait_until(
            lambda: os.sched_getscheduler(pid) == os.SCHED_IDLE or os.getpriority(os.PRIO_PROCESS, pid) == 19,
            "it stands back",
            60.0,
        )
    with process._starting:  # whatever else goes on there, nobody waits for it
        process.close()
        process.close()
    assert gone(pid)
    waiting.join(60.0)
    assert not waiting.is_alive()
    assert len(told) == 1
    assert "has ended" in told[0]
    with pytest.raises(AppError, match="open it again"):
        process.draw(request)


def test_a_model_that_is_not_there_is_told(posed: Posed) -> None:
    process = InspectorProcess("nowhere.safetensors")
    try:
        with pytest.raises(AppError, match=r"nowhere\.safetensors"):
            process.draw(Request(posed, ("flow",), (0.5, 0.5), 64))
    finally:
        process.close()


def test_a_network_without_memory_shows_the_rest(tmp_path: Path, posed: Posed) -> None:
    tiny = McnetConfig.named("tiny")
    bare = dataclasses.replace(tiny, memory=dataclasses.replace(tiny.memory, levels_px=()))
    save_model(Mcnet(bare, ModelInfo(name="bare")), tmp_path / "bare.safetensors")
    file = str(tmp_path / "bare.safetensors")
    posed = posed._replace(fingerprint=fingerprint(file))
    drawn = Artist(file).draw(Request(posed, VIEWS, (0.5, 0.5), 64))
    for view, picture in zip(VIEWS, drawn, strict=True):
        assert picture.shape == (64, 128 if view in WIDE else 64, 3)
        assert (picture.std() == 0) == (view in WIDE)


def test_a_run_that_learns_is_followed_and_nothing_else_is_shown(model: str, posed: Posed) -> None:
    request = Request(posed, ("warped", "generated"), (0.5, 0.5), 64)
    artist = Artist(model)
    before = artist.draw(request)
    assert len(before) == 2
    assert artist.draw(request._replace(posed=posed._replace(fingerprint="other/torch.float32"))) == []
    torch.manual_seed(1)
    save_model(Mcnet(McnetConfig.named("tiny"), ModelInfo(name="tiny")), model)
    assert len(artist.draw(request)) == 2  # the engine still has the former weights, and so does this process
    newer = artist.draw(request._replace(posed=posed._replace(fingerprint=fingerprint(model))))
    assert len(newer) == 2
    assert np.abs(newer[1].astype(int) - before[1]).mean() > 1
    assert artist.draw(request) == []  # a late frame of the former weights


@pytest.mark.parametrize("where", ["__init__", "draw"])
def test_a_package_that_it_lacks_is_told_in_its_sentence_and_logged_nowhere(
    where: str, posed: Posed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lacking(*_: object) -> None:
        raise ModuleNotFoundError(name="nowhere")

    monkeypatch.setattr(inspector, "step_back", lambda: None)
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    monkeypatch.setattr(inspector.Artist, "__init__", lambda *_: None)
    monkeypatch.setattr(inspector.Artist, where, lacking)
    ours, its = Pipe()
    ours.send(Request(posed, ("flow",), (0.5, 0.5), 64))
    serving = threading.Thread(target=inspector._serve, args=(its, "starter"))
    serving.start()
    assert ours.poll(60.0)
    assert ours.recv().startswith("the package nowhere is not installed (pip install nowhere)")
    ours.close()
    serving.join(60.0)
    assert not serving.is_alive()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
