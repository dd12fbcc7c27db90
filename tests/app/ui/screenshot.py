"""Pictures of the real window with the real pipeline: `python -m tests.app.ui.screenshot [OPTIONS] [FOLDER]`.

Runs under Xvfb where there is no display. The bundled clip stands in for the camera, and a sink that keeps nothing for
the virtual camera in the last pictures; settings and portraits are those of a first launch and are thrown away. The
person is cut out, as from the first launch on where the app may use four processors, however many there are here. The
kernel that the window names is Debian 12's.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import assets

CLIP = assets.ROOT / "driving" / "grid_bbaf2n.mpg"
OF_THE_PAGE = {
    "1-first-launch-dark": "first-launch",
    "3-inspect-dark": "measured",
    "5-small-light-checklist": "small",
    "6-keys": "keys",
    "7-crop": "crop",
    "8-slate": "slate",
    "11-live": "live",
    "15-fine-tune-small-light": "fine-tune",
    "23-scene": "scene",
    "25-control": "control",
}
"""The pictures of docs/window.md, by their names there."""
_QUALITY = 88
_KERNEL = "6.1.0-28-amd64"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("out/screenshots"))
    parser.add_argument("--quick", action="store_true", help="two pictures only")
    parser.add_argument("--language", default="en", help="of the window, as of mcnet-avatar")
    parser.add_argument("--model", default="", help="instead, how this model is chosen, and given up again in a call")
    parser.add_argument("--inside", action="store_true", help="the dock with the inside of the network only")
    parser.add_argument("--scene", action="store_true", help="the portrait cut out before a background only")
    parser.add_argument("--control", action="store_true", help="control from outside and the slate's key only")
    parser.add_argument(
        "--compiled",
        type=Path,
        help="where OpenVINO finds what it has compiled, and leaves it; what runs the model best is known then, too",
    )
    parser.add_argument("--page", type=Path, help="also the pictures of docs/window.md, as JPEGs, into this folder")
    args = parser.parse_args()
    if not os.environ.get("DISPLAY"):
        xvfb = shutil.which("xvfb-run")
        if xvfb is None:
            print("no display and no xvfb-run: apt-get install xvfb xauth", file=sys.stderr)
            return 1
        command = [xvfb, "-a", "-s", "-screen 0 1600x1000x24", sys.executable, "-m", __spec__.name, *sys.argv[1:]]
        return subprocess.run(command, check=False).returncode
    os.environ.pop("QT_QPA_PLATFORM", None)  # a test's, which would leave no screen to take pictures of
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.page is not None:
        args.page.mkdir(parents=True, exist_ok=True)
    if args.compiled is not None:
        from tests.compiled import keep

        keep(args.compiled)
    with tempfile.TemporaryDirectory() as home:
        for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
            os.environ[name] = home
        os.environ["HOME"] = home  # which pictures show as ~
        platform.release = lambda: _KERNEL
        if args.compiled is not None:
            from tests.fastest import know

            know()
        kinds = {"quick": args.quick, "inside": args.inside, "scene": args.scene, "control": args.control}
        return take(args.folder, args.page, model=args.model, language=args.language, **kinds)


def take(
    folder: Path,
    page: Path | None,
    *,
    quick: bool,
    inside: bool,
    scene: bool,
    control: bool,
    model: str,
    language: str,
) -> int:
    from PyQt6.QtWidgets import QApplication, QScrollArea

    from app.pipeline.doctor import VirtualCameraReport, examine_virtual_camera
    from app.pipeline.output.sinks import NullSink
    from app.settings import AppSettings, LiveSettings
    from app.ui.application import WindowOptions, _leave_behind, check_display
    from app.ui.languages import speak
    from app.ui.main_window import MainWindow
    from app.ui.parts import real_parts
    from app.ui.session import Session
    from app.ui.theme import apply_theme, current_theme

    class StandIn(NullSink):
        name = "virtualcam"
        detail = "stand-in"

    check_display()
    app = QApplication(sys.argv[:1])
    speak(app, language)
    apply_theme(app, current_theme("dark"))
    options = WindowOptions(camera=str(CLIP))
    virtual_cameras = [
        examine_virtual_camera(),
        VirtualCameraReport("ready", "stand-in", "The virtual camera is ready."),
    ]
    parts = replace(
        real_parts(), examine_virtual_camera=lambda _: virtual_cameras[0], make_virtual_camera=lambda *_: StandIn()
    )
    live = LiveSettings(surroundings=True, cut_out=True)
    session = Session(options, AppSettings(recordings="~/Videos", live=live), parts)
    window = MainWindow(session)
    began_s = time.monotonic()
    heard: list[object] = []
    gave_up: list[str] = []
    session.told.connect(heard.append)
    window.show()
    window.when_painted(session.start)

    def wait(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            app.processEvents()
            time.sleep(0.005)
            if time.monotonic() > deadline_s:
                gave_up.append(what)
                print(f"gave up waiting for {what}; told: {heard}", file=sys.stderr)
                return
        print(f"{time.monotonic() - began_s:6.2f} s  {what}")

    def rest(seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            app.processEvents()
            time.sleep(0.005)

    def shoot(name: str) -> None:
        window.messages.clear("measured")
        rest(0.6)
        screen = window.screen()
        assert screen is not None
        picture = screen.grabWindow(window.winId())
        picture.save(str(folder / f"{name}.png"))
        if page is not None and name in OF_THE_PAGE:
            picture.save(str(page / f"{OF_THE_PAGE[name]}.jpg"), quality=_QUALITY)
        print(f"        {name}: {picture.width()} x {picture.height()}")

    def use(**changes: object) -> None:
        session.set_window(replace(session.settings.window, **changes))  # type: ignore[arg-type]

    def leave() -> int:
        print(window.status.text)
        closing_s = time.monotonic()
        window.close()
        print(f"closed in {time.monotonic() - closing_s:.2f} s")
        if not window.ended:
            _leave_behind(0)
        return 1 if gave_up else 0

    wait(lambda: window.preview.picture_size is not None, 60, "first output picture")
    shoot("0-starting")
    wait(lambda: session.chain.model.done, 60, "model")
    wait(lambda: session.state.shows_avatar, 60, "first animated frame")
    rest(1 if quick else 3)
    if not (inside or scene or control):
        shoot("1-first-launch-dark")
    if quick:
        return leave()
    if model:
        use(checklist_done=True)
        scroll = window.controls.findChild(QScrollArea)
        assert scroll is not None
        session.choose_model(model)
        wait(lambda: not session.models.looking, 60, "a look at the model")
        scroll.ensureWidgetVisible(window.controls.run.card)
        shoot("19-model-asked")
        if window.messages.messages:
            window.messages.action_button.click()
        wait(lambda: session.models.card_of == model and session.chain.model.done, 120, "the model")
        wait(lambda: session.state.shows_avatar, 60, "its first frame")
        scroll.ensureWidgetVisible(window.controls.run.card)
        rest(3)
        shoot("20-model-card")
        virtual_cameras.pop(0)
        session.virtual_camera.examine()
        wait(lambda: session.virtual_camera.report is not None, 5, "virtual camera")
        session.virtual_camera.switch(True)
        wait(lambda: session.virtual_camera.on_air, 5, "sink")
        session.go_live()
        rest(3)
        session.choose_model("starter")
        wait(lambda: session.models.card_of == "starter", 60, "the bundled model, in the call")
        wait(lambda: session.state.shows_avatar, 60, "its first frame")
        scroll.ensureWidgetVisible(window.controls.run.card)
        rest(3)
        shoot("21-model-in-a-call")
        return leave()

    def look_inside() -> None:
        use(show_inspector=True, checklist_done=True)
        wait(lambda: bool(window.inspector.canvas.shown), 240, "the inside of a frame")
        rest(5)
        shoot("22-inside-dark")
        use(show_inspector=False, checklist_done=False)

    def set_the_scene() -> None:
        live = session.settings.live
        session.set_live(replace(live, cut_out=True, background="colour", background_colour="#264b73", portrait_x=0.14))
        use(checklist_done=True)
        rest(3)
        scroll = window.controls.findChild(QScrollArea)
        assert scroll is not None
        scroll.ensureWidgetVisible(window.controls.scene.cut_out, 0, 60)
        scroll.ensureWidgetVisible(window.controls.scene.reset_button, 0, 20)
        shoot("23-scene")
        session.set_live(live)
        use(checklist_done=False)

    def let_others_in() -> None:
        session.remote.switch(True)
        session.panic_key.choose("Ctrl+Alt+0")
        wait(lambda: session.remote.port != 0 and session.panic_key.heard, 20, "control from outside, and a key")
        use(checklist_done=True)
        scroll = window.controls.findChild(QScrollArea)
        assert scroll is not None
        scroll.ensureWidgetVisible(window.controls.theme, 0, 20)
        shoot("25-control")
        session.panic_key.choose("")
        session.remote.switch(False)
        use(checklist_done=False)

    if scene:
        set_the_scene()
        return leave()
    if control:
        let_others_in()
        return leave()
    look_inside()
    if inside:
        return leave()
    set_the_scene()
    let_others_in()
    use(theme="light")
    shoot("2-first-launch-light")
    use(theme="dark", checklist_done=True, show_landmarks=True, show_statistics=True, overlay_opacity=0.4)
    shoot("3-inspect-dark")
    use(show_landmarks=False, show_statistics=False, overlay_opacity=0.0)
    window.resize(1024, 640)
    shoot("4-small-dark")
    use(theme="light", checklist_done=False)
    shoot("5-small-light-checklist")
    use(show_fine_tune=True, checklist_done=True)
    window.columns.show_side("controls")
    rest(0.2)
    scroll = window.controls.findChild(QScrollArea)
    assert scroll is not None
    scroll.ensureWidgetVisible(window.controls.fine_tune)
    shoot("15-fine-tune-small-light")
    use(theme="dark")
    shoot("16-fine-tune-small-dark")
    session.set_live(replace(session.settings.live, motion="plane"))
    wait(lambda: session.calibrating is not None, 10, "a calibration for the plane")
    shoot("17-plane-small-dark")
    wait(lambda: session.chain.calibration.done, 20, "its end")
    session.set_live(replace(session.settings.live, motion="space"))
    window.resize(800, 480)
    shoot("18-smallest-dark")
    window.columns.show_side("portraits")
    use(show_fine_tune=False)
    bar = scroll.verticalScrollBar()
    assert bar is not None
    bar.setValue(0)
    use(theme="dark", checklist_done=True)
    window.resize(1180, 720)
    window.toggle_keys()
    shoot("6-keys")
    window.toggle_keys()
    session.desk.crop(session.desk.current)
    wait(lambda: session.desk.cropping is not None, 10, "crop editor")
    shoot("7-crop")
    session.desk.cancel_crop()
    session.set_live(replace(session.settings.live, background="colour"))
    session.slate()
    shoot("8-slate")
    session.go_live()
    session.desk.choose("man_3")
    wait(lambda: session.desk.pending == "", 10, "another portrait")
    window.performer.toggle_size()
    shoot("9-other-portrait")
    window.performer.toggle_size()
    session.set_live(replace(session.settings.live, background="blur"))
    use(checklist_done=False)
    virtual_cameras.pop(0)
    session.virtual_camera.examine()
    wait(lambda: session.virtual_camera.report is not None, 5, "virtual camera")
    session.virtual_camera.switch(True)
    wait(lambda: session.virtual_camera.on_air, 5, "sink")
    shoot("10-standby")
    use(mirror_preview=False)
    session.go_live()
    rest(6)
    session.recordings.toggle()
    wait(lambda: session.recordings.path is not None, 5, "recording")
    shoot("13-recording")
    session.recordings.toggle()
    wait(lambda: session.recordings.path is None, 5, "end of the recording")
    shoot("14-recorded")
    window.messages.dismiss()
    shoot("11-live")
    use(checklist_done=True)
    shoot("12-live-quiet")
    return leave()


if __name__ == "__main__":
    sys.exit(main())
