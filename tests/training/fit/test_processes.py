"""Several processes of a run: what one does for all of them, and that no others work on it."""

import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import training.fit.loop
from mcnet.files import Claim
from mcnet.model_file import LINEAR_JACOBIANS
from tests.training.conftest import tiny_config
from tests.training.fit.test_measured import POINTS, RUN, first_model
from training.data import DataError
from training.fit.config import format_config
from training.fit.loop import _set_up, fit
from training.fit.processes import LauncherError, Processes
from training.fit.stages import FitError
from training.fit.state import CHECKPOINT

_SECOND = """
    import json, sys
    from pathlib import Path
    import training.fit.loop
    from mcnet.model_file import LINEAR_JACOBIANS
    from training.fit.config import load_config
    from training.fit.processes import ElsewhereError, Processes

    def never(*_):
        raise AssertionError("the map is the first process's to fit")

    training.fit.loop.fit_linear_jacobians = never
    config, run = load_config(sys.argv[1]), Path(sys.argv[2])
    with Processes(on_gpu=False) as processes:
        ready = training.fit.loop._set_up(config, run, None, processes)
        print(json.dumps(ready.facts[LINEAR_JACOBIANS]))
        try:
            training.fit.loop._set_up(config, run, None, processes)
        except ElsewhereError as error:
            print(error)
"""


def test_a_second_training_of_the_same_run_does_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    first = Claim.beside(run / CHECKPOINT)
    assert first.take()
    with pytest.raises(FitError, match=r"another mcnet-train fit is at work in .*run, expected one at a time"):
        fit(tiny_config(tmp_path), run)
    assert list(run.iterdir()) == [first.path]
    first.release()


def test_the_map_of_jacobians_is_the_firsts_and_so_is_its_failure(
    heads_in_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process is the first of two; the other one does not wait minutes for what does not come."""
    config = tiny_config(
        heads_in_space,
        run={"initial": str(first_model(tmp_path))},
        data={**RUN, "linear_share": 0.5},
        loss={"guidance_points": list(POINTS)},
    )
    (tmp_path / "config.toml").write_text(format_config(config), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", textwrap.dedent(_SECOND), str(tmp_path / "config.toml"), str(tmp_path / "run")]
    second = subprocess.Popen(
        arguments,
        env={**os.environ, **place, "RANK": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    for name, value in {**place, "RANK": "0"}.items():
        monkeypatch.setenv(name, value)

    def fails(*_: object) -> None:
        raise DataError("no picture has landmarks, expected some")

    try:
        with Processes(on_gpu=False) as processes:
            ready = _set_up(config, tmp_path / "run", None, processes)
            monkeypatch.setattr(training.fit.loop, "fit_linear_jacobians", fails)
            with pytest.raises(DataError, match="no picture has landmarks"):
                _set_up(config, tmp_path / "run", None, processes)
            told, errors = second.communicate(timeout=120)
    finally:
        second.kill()
    assert second.returncode == 0, errors
    found, failure = told.splitlines()
    assert json.loads(found) == [list(row) for row in ready.facts[LINEAR_JACOBIANS]]
    assert failure == (
        "the first of 2 processes failed, so that this one ends: no picture has landmarks, expected some"
    )


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"WORLD_SIZE": "x"}, "WORLD_SIZE='x', expected a whole number from 1: start several processes by torchrun"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE='0', expected a whole number from 1:"),
        ({"WORLD_SIZE": "2"}, "RANK='', expected a whole number from 0 to 1"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK='2', expected a whole number from 0 to 1"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "MASTER_PORT='', expected a whole number from 0 to 65535"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "9"}, "MASTER_ADDR='', expected the first machine's address"),
        (
            {"WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "taken", "MASTER_ADDR": "127.0.0.1"},
            "the 2 processes do not find one another",
        ),
    ],
)
def test_what_a_launcher_has_not_said_is_told(
    said: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for name, value in said.items():
            monkeypatch.setenv(name, str(taken.getsockname()[1]) if value == "taken" else value)
        with pytest.raises(LauncherError, match=message):
            Processes(on_gpu=False)


def test_what_a_killed_run_left_half_written_is_removed(heads: Path, tmp_path: Path) -> None:
    kill = (
        "import os, sys; from pathlib import Path; from mcnet.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as partial:\n    partial.write_bytes(b'half'); os._exit(9)"
    )
    for name in (CHECKPOINT, "latest.safetensors", "stats.jsonl"):
        subprocess.run([sys.executable, "-c", kill, str(tmp_path / name)], check=False, timeout=60)
    assert len(list(tmp_path.glob(".*.partial"))) == 3
    (tmp_path / ".mine.partial").touch()
    config = tiny_config(heads, motion={"steps": 1}, full={"steps": 0})
    claim = Claim.beside(tmp_path / CHECKPOINT)
    assert claim.take()
    with pytest.raises(FitError, match="at work"):
        fit(config, tmp_path)  # while another one may be writing it
    claim.release()
    assert len(list(tmp_path.glob(".*.partial"))) == 4
    fit(config, tmp_path)
    assert [path.name for path in tmp_path.glob(".*")] == [".mine.partial"]
