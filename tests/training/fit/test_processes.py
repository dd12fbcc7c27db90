"""What one process of a run does for all of them: this process is the first of two."""

import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import training.fit.loop
from mcnet.model_file import LINEAR_JACOBIANS
from tests.training.conftest import tiny_config
from tests.training.fit.test_measured import POINTS, RUN, first_model
from training.data import DataError
from training.fit.config import format_config
from training.fit.loop import _set_up
from training.fit.processes import Processes

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


def test_the_map_of_jacobians_is_the_firsts_and_so_is_its_failure(
    heads_in_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one does not wait for what does not come, which it would for minutes."""
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
            told, errors = second.communicate(timeout=60)
    finally:
        second.kill()
    assert second.returncode == 0, errors
    found, failure = told.splitlines()
    assert json.loads(found) == [list(row) for row in ready.facts[LINEAR_JACOBIANS]]
    assert failure == (
        "the first of 2 processes failed, so that this one ends: no picture has landmarks, expected some"
    )
