"""What the doctor says of PipeWire."""

from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from app.errors import AppError
from app.pipeline.output import pipewire_client, pipewire_process
from app.pipeline.output.pipewire_client import LibraryError
from app.pipeline.output.pipewire_report import PipeWireProbe, examine_pipewire
from app.pipeline.output.pipewire_worker import PipeWireWorker
from app.pipeline.output.virtual_camera_report import VirtualCameraReport
from tests.app.pipeline.output.pipewire_daemon import Daemon


def look(
    folder: Path,
    *,
    socket: OSError | None = None,
    facts: dict[str, Any] | AppError | None = None,
    installed: bool = True,
    system: str = "ID=debian",
) -> VirtualCameraReport:
    def require() -> None:
        if socket is not None:
            raise socket

    def ask() -> dict[str, Any]:
        if isinstance(facts, AppError):
            raise facts
        return facts or {"version": "1.2.3", "manager": "WirePlumber"}

    release = folder / "os-release"
    release.write_text(system, encoding="utf-8")
    return PipeWireProbe(require, ask, lambda: installed, release).examine()


def test_ready(tmp_path: Path) -> None:
    report = look(tmp_path)
    assert (report.status, report.device, report.fixes) == ("ready", "mcnet-avatar", ())
    assert report.sentence.startswith("PipeWire 1.2.3 with WirePlumber can have the camera mcnet-avatar")


def test_not_installed(tmp_path: Path) -> None:
    for system, command in (
        ("ID=ubuntu\nID_LIKE=debian", "sudo apt install pipewire wireplumber"),
        ("ID=fedora", "sudo dnf install pipewire wireplumber"),
        ("ID=endeavouros\nID_LIKE=arch", "sudo pacman -S --needed pipewire wireplumber"),
        ("ID=other", ""),
    ):
        report = look(tmp_path, socket=FileNotFoundError(), installed=False, system=system)
        assert (report.status, report.sentence) == ("missing", "PipeWire is not installed.")
        assert report.fixes[0].command == command
        assert report.fixes[1].command.startswith("systemctl --user enable --now pipewire.socket")


def test_not_running(tmp_path: Path) -> None:
    report = look(tmp_path, socket=ConnectionRefusedError())
    assert report.status == "missing"
    assert report.sentence.startswith("PipeWire is installed, but does not run: nothing listens at ")
    assert [fix.text for fix in report.fixes] == ["Start it, now and at every login"]


def test_not_permitted(tmp_path: Path) -> None:
    report = look(tmp_path, socket=PermissionError())
    assert report.status == "denied"
    assert "not with sudo" in report.advice


def test_without_a_session_manager(tmp_path: Path) -> None:
    report = look(tmp_path, facts={"version": "0.3.65", "manager": ""})
    assert report.status == "missing"
    assert "PipeWire 0.3.65 runs, but without a session manager" in report.sentence
    assert [fix.text for fix in report.fixes] == ["Install it", "Start it, now and at every login"]


def test_a_library_that_is_missing(tmp_path: Path) -> None:
    report = look(tmp_path, facts=LibraryError("PipeWire's library cannot be loaded; install PipeWire"))
    assert report.sentence == (
        "PipeWire runs, but cannot be used: PipeWire's library cannot be loaded; install PipeWire."
    )
    assert [fix.command for fix in report.fixes] == ["sudo apt install pipewire wireplumber"]


def test_a_daemon_that_does_not_answer(tmp_path: Path) -> None:
    report = look(tmp_path, facts=AppError("PipeWire did not answer within 5 s"))
    assert [fix.command for fix in report.fixes] == ["systemctl --user restart pipewire wireplumber"]


def _without_library(connection: "Connection[Any, Any]") -> None:
    pipewire_client.LIBRARY = "libpipewire-of-a-test.so.0"
    pipewire_process.examine(connection)


def test_the_process_says_that_it_is_the_library() -> None:
    worker = PipeWireWorker(_without_library)
    try:
        with pytest.raises(LibraryError, match=r"cannot be loaded .*install PipeWire"):
            worker.facts(60)
    finally:
        worker.end()
        worker.close()


def test_the_real_daemon(daemon: Daemon) -> None:
    report = examine_pipewire()
    assert report.status == "ready"
    assert "with WirePlumber" in report.sentence
    daemon.stop()
    daemon.start(manager=False)
    assert "without a session manager" in examine_pipewire().sentence
    daemon.stop()
    assert "does not run" in examine_pipewire().sentence


def test_no_daemon_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIPEWIRE_RUNTIME_DIR", str(tmp_path))
    assert examine_pipewire().status == "missing"
