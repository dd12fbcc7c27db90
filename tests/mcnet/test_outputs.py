import os
from pathlib import Path

import pytest

from mcnet.commands.outputs import OutputError, check_outputs


def test_what_can_be_written_passes_and_nothing_is_touched(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("old", encoding="utf-8")
    (tmp_path / "in.mp4").touch()
    outputs = {"--report": tmp_path / "old.json", "--sheet": tmp_path / ("x" * 251 + ".png")}
    check_outputs(outputs, {"--in": tmp_path / "in.mp4", "--gone": tmp_path / "gone"}, {"--sheet": (".png",)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "old.json"]
    assert (tmp_path / "old.json").read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere/r.json", "there is no folder .*nowhere; make it first"),
        ("folder", "it is a folder, expected a file's name"),
        ("file/r.json", "there is no folder"),
        ("pipe", "it is a device or a pipe"),
        ("x" * 256, "its name is too long, expected at most 255 bytes"),
        ("in.mp4", "it would write over what --in reads"),
        ("link.mp4", "it would write over what --in reads"),
        ("hard.mp4", "it would write over what --in reads"),
        ("circle/r.json", "there is no folder .*circle; make it first"),
        ("folder/../in.mp4", "it would write over what --in reads"),
        ("other.json", "--report is to be written there, too|--other is to be written there, too"),
    ],
)
def test_what_cannot_be_written_is_told(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    for file in ("file", "in.mp4"):
        (tmp_path / file).touch()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "in.mp4")
    (tmp_path / "hard.mp4").hardlink_to(tmp_path / "in.mp4")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    os.mkfifo(tmp_path / "pipe")
    outputs = {"--report": tmp_path / name, "--other": tmp_path / "other.json"}
    with pytest.raises(OutputError, match=message):
        check_outputs(outputs, {"--in": tmp_path / "in.mp4"})


def test_a_suffix_that_is_not_wanted_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"got suffix '\.txt', expected \.png or \.jpg"):
        check_outputs({"--sheet": tmp_path / "a.txt"}, {}, {"--sheet": (".png", ".jpg")})


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="its folder is not writable"):
            check_outputs({"--report": tmp_path / "r.json"}, {})
    finally:
        tmp_path.chmod(0o700)
