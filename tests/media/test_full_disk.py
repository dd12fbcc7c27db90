"""An output that fails at its opening, its header, a packet, its trailer or its close; each container there is."""

from typing import Any

import pytest

from tests.disks import HOWS, in_child, place
from tests.media.outputs import STEPS, Step

SAID = {
    "disk": "No space left on device; make room on the disk",
    "limit": "File too large; choose a disk that takes larger files, or make it shorter",
    "close": "Input/output error; choose another place",
    "gone": "No such file or directory; choose another place",
}


@pytest.fixture(scope="module", params=HOWS)
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[Step, dict[str, Any]]:
    """What came of each step, from a child process: a crash is a failure and not the end of all tests."""
    how = request.param
    with place(how, tmp_path_factory.mktemp("full")) as folder:
        rows = in_child("tests.media.outputs", how, str(folder))
    return {step: {**row, "how": how, "folder": folder} for step, row in zip(STEPS, rows, strict=True)}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step.name}-{step.container}-{step.method}-{step.nth}")
def test_a_failure_is_told_and_what_plays_is_kept(outcomes: dict[Step, dict[str, Any]], step: Step) -> None:
    row = outcomes[step]
    path = row["folder"] / step.name
    gone = step.method == "gone" or (step.method == "open" and row["how"] == "limit")
    said = SAID["gone" if gone else "close" if step.method == "close" else row["how"]]
    kept = f"; what was written before is kept as {path}" if step.kept else "; nothing of it could be kept"
    assert row["error"] == f"{step.says} {path}: {said}{'' if step.says == 'cannot write' else kept}"
    assert row["files"] == ([step.name] if step.kept else []), "nothing else stays, such as a partial file"
    assert row["frames"] >= step.kept
