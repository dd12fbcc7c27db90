import errno
import os
from pathlib import Path

import pytest

from app.pipeline.output.virtual_camera_report import (
    OBS_CAMERA,
    UNITY_CAMERA,
    LinuxProbe,
    MacProbe,
    UnknownSystemProbe,
    VirtualCameraReport,
    WindowsProbe,
    examine_virtual_camera,
)
from tests.app.linux_machine import CAPTURE, OUTPUT, LinuxMachine

LOAD = 'sudo modprobe v4l2loopback devices=1 video_nr=10 card_label="Avatar" exclusive_caps=1'
KERNEL = "6.1.0"


@pytest.fixture
def machine(tmp_path: Path) -> LinuxMachine:
    return LinuxMachine(tmp_path)


def look(machine: LinuxMachine, device: str | None = None) -> VirtualCameraReport:
    return LinuxProbe(machine.devices, KERNEL).examine(device)


class TestLinux:
    def test_ready(self, machine: LinuxMachine) -> None:
        machine.add(0, "Webcam").add_loopback(10)
        assert look(machine) == VirtualCameraReport(
            "ready", "/dev/video10", "The virtual camera /dev/video10 (avatar) is ready."
        )

    def test_the_module_is_not_loaded(self, machine: LinuxMachine) -> None:
        report = look(machine.add(0, "Webcam").install_module())
        assert (report.status, report.device) == ("missing", "")
        assert "is installed, but not loaded" in report.sentence
        assert [fix.command for fix in report.fixes] == [
            LOAD,
            "echo v4l2loopback | sudo tee /etc/modules-load.d/v4l2loopback.conf\n"
            "echo 'options v4l2loopback devices=1 video_nr=10 card_label=\"Avatar\" exclusive_caps=1' "
            "| sudo tee /etc/modprobe.d/mcnet-avatar.conf",
        ]
        assert report.advice.endswith(f"Load the module: {LOAD}")

    def test_a_number_that_is_free(self, machine: LinuxMachine) -> None:
        machine.install_module().add(10, "Webcam").add(11, "Webcam")
        assert "video_nr=12 " in look(machine).fixes[0].command

    @pytest.mark.parametrize(
        ("release", "command"),
        [
            ("ID=debian\n", "sudo apt install v4l2loopback-dkms linux-headers-$(uname -r)"),
            ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', "sudo apt install v4l2loopback-dkms linux-headers-$(uname -r)"),
            ("NAME=Fedora\nID=fedora\n", "sudo dnf install akmod-v4l2loopback"),
            ("ID=manjaro\nID_LIKE=arch\n", "sudo pacman -S --needed v4l2loopback-dkms linux-headers"),
            ('ID=rocky\nID_LIKE="rhel centos fedora"\n', ""),
            ("ID=plan9\n", ""),
        ],
    )
    def test_the_module_is_not_installed(self, machine: LinuxMachine, release: str, command: str) -> None:
        (machine.root / "etc/os-release").write_text(release, encoding="utf-8")
        report = look(machine)
        assert report.status == "missing"
        assert "not installed for the kernel 6.1.0" in report.sentence
        assert command in report.fixes[0].command
        assert report.fixes[1].command == LOAD
        if not command:
            assert "your distribution's package" in report.fixes[0].text

    def test_secure_boot_is_named(self, machine: LinuxMachine) -> None:
        folder = machine.install_module().root / "sys/firmware/efi/efivars"
        folder.mkdir(parents=True)
        state = folder / "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
        state.write_bytes(b"\x06\0\0\0\0")
        assert len(look(machine).fixes) == 2
        state.write_bytes(b"\x06\0\0\0\x01")
        assert look(machine).fixes[2].command == "sudo mokutil --import /var/lib/dkms/mok.pub"
        (machine.root / "etc/os-release").write_text("ID=ubuntu\nID_LIKE=debian\n", encoding="utf-8")
        assert look(machine).fixes[2].command == "sudo mokutil --import /var/lib/shim-signed/mok/MOK.der"

    def test_an_image_based_fedora_layers_packages(self, machine: LinuxMachine) -> None:
        (machine.root / "etc/os-release").write_text("ID=bazzite\nID_LIKE=fedora\n", encoding="utf-8")
        (machine.root / "run").mkdir(exist_ok=True)
        (machine.root / "run/ostree-booted").touch()
        assert look(machine).fixes[0].command.startswith("rpm-ostree install akmod-v4l2loopback")

    def test_the_module_has_no_device(self, machine: LinuxMachine) -> None:
        report = look(machine.load_module())
        assert (report.status, report.sentence) == ("missing", "v4l2loopback is loaded, but has no device.")
        assert report.fixes[0].command == f"sudo modprobe -r v4l2loopback\n{LOAD}"

    def test_busy_with_the_program(self, machine: LinuxMachine) -> None:
        report = look(machine.add_loopback(10, fed=True).add_process(42, "obs", 10))
        assert (report.status, report.device) == ("busy", "/dev/video10")
        assert report.advice.endswith("is in use by obs (process 42). Close obs (process 42).")

    def test_busy_with_a_program_that_cannot_be_seen(self, machine: LinuxMachine) -> None:
        report = look(machine.add_loopback(10, fed=True))
        assert report.status == "busy"
        assert [fix.command for fix in report.fixes] == [
            "sudo fuser -v /dev/video10",
            "v4l2-ctl -d /dev/video10 -c keep_format=0",
        ]

    def test_fed_by_ourselves(self, machine: LinuxMachine) -> None:
        report = look(machine.add_loopback(10, fed=True).add_process(os.getpid(), "python", 10, only_writes=True))
        assert (report.status, report.sentence) == (
            "ready",
            "The virtual camera /dev/video10 (avatar) takes our pictures.",
        )

    def test_denied(self, machine: LinuxMachine) -> None:
        report = look(machine.add_loopback(10, error=errno.EACCES))
        assert (report.status, report.device) == ("denied", "/dev/video10")
        assert report.fixes[0].command == "sudo usermod -aG video $USER"

    def test_a_device_that_does_not_answer(self, machine: LinuxMachine) -> None:
        report = look(machine.add_loopback(10, error=errno.EIO))
        assert report.status == "missing"
        assert "does not answer (Input/output error)" in report.sentence

    def test_without_exclusive_caps_it_works_but_not_everywhere(self, machine: LinuxMachine) -> None:
        report = look(machine.add_loopback(10, exclusive=False))
        assert report.status == "ready"
        assert "Chrome" in report.sentence
        assert report.fixes[0].command.startswith("sudo modprobe -r v4l2loopback\n")
        assert "modprobe.d" in report.fixes[1].command

    def test_without_exclusive_caps_busy_is_seen_too(self, machine: LinuxMachine) -> None:
        assert look(machine.add_loopback(10, exclusive=False, fed=True)).status == "busy"

    def test_a_reader_that_stayed_does_not_make_it_busy(self, machine: LinuxMachine) -> None:
        assert look(machine.add_loopback(10, fed=True, flags=CAPTURE | OUTPUT)).status == "ready"

    def test_an_older_module_that_offers_nothing_any_more(self, machine: LinuxMachine) -> None:
        assert look(machine.add_loopback(10, flags=0)).status == "ready"

    def test_an_older_module_without_a_state(self, machine: LinuxMachine) -> None:
        machine.add_loopback(10, exclusive=False)
        entry = machine.root / "sys/class/video4linux/video10"
        (entry / "state").unlink()
        (entry / "format").write_text("", encoding="utf-8")
        assert look(machine).status == "ready"
        (entry / "format").write_text("YU12:640x360@30\n", encoding="utf-8")
        assert look(machine).status == "busy"

    def test_the_free_one_of_several(self, machine: LinuxMachine) -> None:
        machine.add_loopback(10, fed=True).add_loopback(11, error=errno.EACCES).add_loopback(12)
        assert (look(machine).status, look(machine).device) == ("ready", "/dev/video12")
        assert look(machine, "/dev/video10").status == "busy"

    @pytest.mark.parametrize(
        ("device", "got"),
        [
            ("/dev/video3", "got nothing"),
            ("/dev/video0", "got Webcam, a camera of another kind"),
            ("Avatar", "got nothing"),
        ],
    )
    def test_a_chosen_device_that_is_none(self, machine: LinuxMachine, device: str, got: str) -> None:
        report = look(machine.add(0, "Webcam").add_loopback(10), device)
        assert report.status == "missing"
        assert got in report.sentence

    def test_every_report_on_a_fault_says_what_to_do(self, machine: LinuxMachine) -> None:
        seen = [look(machine), look(machine.install_module()), look(machine.load_module())]
        seen += [look(machine.add_loopback(10, fed=True)), look(machine, "/dev/video1")]
        assert all(report.status != "ready" and report.fixes for report in seen)


class TestWindows:
    @staticmethod
    def look(*classes: str, in_use: bool = False, device: str | None = None) -> VirtualCameraReport:
        names = {"{A3FCE0F5-3493-419F-958A-ABA1250EC20B}": "obs", "{5C2CD55C-92AD-4999-8666-912BD3E70010}": "unity"}
        return WindowsProbe(lambda class_id: names[class_id] in classes, lambda: in_use).examine(device)

    def test_ready(self) -> None:
        report = self.look("obs")
        assert (report.status, report.device) == ("ready", OBS_CAMERA)

    def test_missing(self) -> None:
        report = self.look()
        assert report.status == "missing"
        assert "Install OBS Studio from https://obsproject.com" in report.fixes[0].text

    def test_busy_or_the_other_one(self) -> None:
        assert (self.look("obs", in_use=True).status, self.look("obs", in_use=True).device) == ("busy", OBS_CAMERA)
        assert self.look("obs", "unity", in_use=True).device == UNITY_CAMERA
        assert self.look("obs", "unity", in_use=True, device=OBS_CAMERA).status == "busy"

    def test_a_chosen_device(self) -> None:
        assert self.look("obs", device="Nope").status == "missing"
        assert self.look("unity", device="Unity Video Capture #2").device == "Unity Video Capture #2"


class TestMac:
    LISTED = "*\t*\t2MMRE5MTB8\tcom.obsproject.obs-studio.mac-camera-extension (30.0.0/613)\tOBS\t[{}]\n"

    def look(self, state: str = "", *, obs: bool = True, release: str = "14.2") -> VirtualCameraReport:
        listed = "1 extension(s)\n" + (self.LISTED.format(state) if state else "")
        return MacProbe(lambda: listed, lambda: obs, release).examine(None)

    def test_ready(self) -> None:
        report = self.look("activated enabled")
        assert (report.status, report.device) == ("ready", OBS_CAMERA)

    @pytest.mark.parametrize(("release", "place"), [("14.2", "Privacy & Security"), ("15.1", "Camera Extensions")])
    def test_not_approved(self, release: str, place: str) -> None:
        report = self.look("activated waiting for user", release=release)
        assert report.status == "denied"
        assert place in report.fixes[0].text

    def test_not_activated_or_removed(self) -> None:
        for state in ("", "terminated waiting to uninstall on reboot"):
            report = self.look(state)
            assert report.status == "missing"
            assert report.fixes[0].text.startswith("Open OBS, press Start Virtual Camera once")

    def test_obs_is_not_there(self) -> None:
        assert self.look(obs=False).fixes[0].text.startswith("Install OBS Studio 30 or newer")

    def test_an_old_system(self) -> None:
        assert "expected 13 or newer" in self.look(release="12.6").sentence

    def test_another_device(self) -> None:
        assert MacProbe(lambda: "", lambda: True, "14").examine("Nope").status == "missing"


def test_another_system_has_none() -> None:
    report = UnknownSystemProbe("freebsd14").examine(None)
    assert (report.status, len(report.fixes)) == ("missing", 1)


def test_this_very_machine_can_be_examined() -> None:
    report = examine_virtual_camera()
    assert report.sentence.endswith(".")
    assert report.status == "ready" or report.fixes
