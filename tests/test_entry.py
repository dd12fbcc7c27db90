"""A command that is interrupted before it is there."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]

INTERRUPTED = """
import sys

class CtrlC:
    def find_spec(self, name, path, target=None):
        if name == {interrupted!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, CtrlC())
from {module} import {function} as run
sys.argv = ["command", *{words!r}]
run()
"""


@pytest.mark.parametrize("command", SCRIPTS)
@pytest.mark.parametrize("interrupted", ["{package}.__main__", "logging", "mcnet.version"])
def test_ctrl_c_while_a_command_is_read_is_no_crash(command: str, interrupted: str) -> None:
    module, _, function = SCRIPTS[command].partition(":")
    interrupted = interrupted.format(package=module.partition(".")[0])
    code = INTERRUPTED.format(interrupted=interrupted, module=module, function=function, words=["--version"])
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
