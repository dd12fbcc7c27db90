"""The `mcnet-avatar` command: the window, the same without a window, and the doctor."""

import argparse
import io
import logging
import os
import sys
import threading
from collections.abc import Sequence
from typing import get_args

import mcnet
from app.settings import DEFAULT_PORT, FARTHEST_SHIFT, PORTRAIT_SIZES, KeypointKind, Language, LiveSettings, MotionKind
from mcnet.commands.arguments import PRECISIONS, number, seconds, whole_number
from mcnet.commands.credentials import add_options as add_credentials_options
from mcnet.errors import UserError, told
from mcnet.files import as_written
from mcnet.packages import told_missing
from mcnet.streams import steady_streams

_HEADLESS_ONLY = (
    "sink",
    "frames",
    "seconds",
    "report",
    "absolute",
    "motion",
    "keypoints",
    "calibration_s",
    "remember_calibration",
    "preset",
    "no_retouch",
    "surroundings",
    "fine_detail",
    "record_motion",
    "background",
    "background_blur",
    "portrait_size",
    "portrait_x",
    "portrait_y",
    "give_up_s",
    "model_timeout_s",
    "camera_timeout_s",
    "no_content_credentials",
    "signing_certificates",
    "signing_key",
)


def run() -> None:
    """The command: `main`, then the end of the process, whatever a driver or a loading model still does."""
    status = main()
    if any(thread is not threading.main_thread() for thread in threading.enumerate()):
        # A stage that hung was left behind. Torch and the drivers do not survive an interpreter that ends below them.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the app; returns the exit status: 0 done, 1 failed with a message, 2 misused."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] == "ctl":  # which ends where nobody reads on, so that its streams are not steady
        from app.control.client import run_ctl

        for stream in (sys.stdout, sys.stderr):  # a portrait's name may have what the terminal cannot write
            if isinstance(stream, io.TextIOWrapper):  # None in a program without a console
                stream.reconfigure(errors="backslashreplace")
        return run_ctl(argv[1:])
    steady_streams()
    # Before torch is imported: how long its OpenMP threads spin before they sleep; measured in mcnet/__main__.py.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.headless and args.new_instance:
        parser.error("--new-instance goes without --headless, which never looks for a running window")
    if not args.headless and (
        lone := [name for name in _HEADLESS_ONLY if getattr(args, name) != parser.get_default(name)]
    ):
        parser.error(f"--{lone[0].replace('_', '-')} goes with --headless")
    level = logging.INFO if args.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s: %(message)s")
    try:
        return _run(args)
    except UserError as error:
        print(f"mcnet-avatar: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"mcnet-avatar: {told_missing(error)}", file=sys.stderr)
        return 1
    except OSError as error:  # whatever a file system may say that nobody has made a sentence of
        logging.getLogger(__name__).debug("from where it came", exc_info=True)
        print(f"mcnet-avatar: {told(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(args: argparse.Namespace) -> int:
    if args.doctor:
        from app.hotkeys.support import examine_keys
        from app.pipeline.doctor import as_text, check_up, examine_settings
        from app.places import settings_file

        settings, kept = examine_settings(settings_file())
        device, precision = args.device or settings.device, args.precision or settings.precision
        camera = args.camera or settings.camera or None
        found = check_up(args.model or settings.model, device, precision, camera)
        findings = (kept, *found, examine_keys())
        print(as_text(findings))
        return 0 if all(finding.good for finding in findings) else 1
    if args.headless:
        from app.headless import run_headless

        return run_headless(args)
    from app.pipeline.output.sinks import parse_output
    from app.ui.application import WindowOptions, run_window

    parse_output(args.size, args.fps)  # what cannot be is told before a window opens

    return run_window(
        WindowOptions(
            model=args.model,
            device=args.device,
            precision=args.precision,
            camera=args.camera,
            portrait=args.source,
            size=args.size,
            fps_hz=args.fps,
            language=args.language,
            new_instance=args.new_instance,
            control_port=args.control,
        )
    )


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; building it imports nothing heavy."""
    parser = argparse.ArgumentParser(
        prog="mcnet-avatar",
        description="Be a portrait in your next video call: your webcam moves it, live. Alone, it opens a window.",
        epilog="mcnet-avatar ctl COMMAND controls the one that runs: mcnet-avatar ctl --help",
    )
    parser.add_argument("--version", action="version", version=f"mcnet-avatar {mcnet.__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="also say what is going on")
    parser.add_argument(
        "--doctor", action="store_true", help="say what is there and what is missing, with the exact fix, and stop"
    )
    parser.add_argument(
        "--camera",
        metavar="CAMERA",
        help="index or device of a webcam (0@1280x720@30 asks for a size and rate), an http:// or rtsp:// address, or "
        "a video file, a motion file (.safetensors) or a folder of pictures that stands in for one (default: as kept; "
        "with --headless 0)",
    )
    parser.add_argument(
        "--source",
        metavar="IMAGE|NAME",
        help="the portrait: a file, or a bundled name (default: as kept; with --headless woman_1)",
    )
    parser.add_argument(
        "--model", help="bundled name, .safetensors, a model's folder or .pth.tar (default: as kept, else starter)"
    )
    parser.add_argument(
        "--device",
        help="auto, cpu, cuda, cuda:N (NVIDIA), gpu, gpu:N (Intel) or mps (Apple) (default: as kept, else auto)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="of the decoder (default: as kept, else auto)",
    )
    parser.add_argument("--size", metavar="WxH", help="of the output (default: as kept, else 1280x720)")
    parser.add_argument("--fps", type=number(1, 120), metavar="HZ", help="of the output (default: as kept, else 30)")
    parser.add_argument(
        "--language", choices=get_args(Language), help="of the window (default: as kept, else the system's)"
    )
    parser.add_argument(
        "--new-instance",
        action="store_true",
        help="open a window although one is running, which otherwise comes to the front",
    )
    parser.add_argument(
        "--control",
        nargs="?",
        type=whole_number(0, 65535),
        const=DEFAULT_PORT,
        metavar="PORT",
        help="let programs of yours control the app, by mcnet-avatar ctl or on 127.0.0.1 (default port: "
        f"{DEFAULT_PORT}; 0: any that is free); see docs/control.md",
    )
    _add_headless(parser)
    add_credentials_options(parser)
    return parser


def _add_headless(parser: argparse.ArgumentParser) -> None:
    """What only a run without a window takes."""
    group = parser.add_argument_group("without a window (--headless)")
    group.add_argument("--headless", action="store_true", help="run the same pipeline without a window")
    group.add_argument(
        "--sink",
        action="append",
        metavar="SINK",
        help="null, file:OUT.mp4, file:OUT.webm (with alpha), virtualcam, virtualcam:DEVICE, pipewire, or "
        "pipewire:NAME (Linux); may be given several times (default: null)",
    )
    group.add_argument(
        "--frames", type=whole_number(1), metavar="N", help="stop after N animated frames (default: at Ctrl-C)"
    )
    group.add_argument("--seconds", type=seconds(), metavar="S", help="stop after so many seconds at the latest")
    group.add_argument("--report", type=as_written, metavar="R.json", help="write what was measured")
    group.add_argument(
        "--motion",
        choices=get_args(MotionKind),
        help="space: the avatar looks where the performer looks, or the run fails where keypoints cannot be measured; "
        "plane: differences of places in the picture (default: space, where keypoints are measured)",
    )
    group.add_argument(
        "--keypoints",
        choices=get_args(KeypointKind),
        default=LiveSettings().keypoints,
        help="measured by the face mesh, or detected by the model (default: measured, for a model whose keypoints are "
        "points of the face)",
    )
    group.add_argument("--absolute", action="store_true", help="absolute motion: no calibration")
    group.add_argument(
        "--remember-calibration",
        action="store_true",
        help="take up what was calibrated for the same performer before the same camera, and keep what is calibrated",
    )
    group.add_argument(
        "--record-motion",
        type=as_written,
        metavar="FILE",
        help="keep the performer's motion, without pictures, in FILE.safetensors, which --camera plays",
    )
    group.add_argument(
        "--preset",
        metavar="NAME",
        help="move the avatar with these strengths, by the name that they were saved under in the window, or Standard",
    )
    group.add_argument(
        "--no-retouch",
        action="store_true",
        help="leave skin, teeth and shut lids as the network makes them; for motion in space, where they are drawn "
        "otherwise",
    )
    group.add_argument(
        "--fine-detail",
        action=argparse.BooleanOptionalAction,
        help="show the portrait's own fine detail, up to 512 px, which takes some milliseconds per picture (default: "
        "where the process may use four processors or more)",
    )
    group.add_argument(
        "--surroundings",
        action=argparse.BooleanOptionalAction,
        help="show what the photograph shows around the portrait's square, and not that alone (default: as with "
        "--fine-detail)",
    )
    group.add_argument(
        "--calibration-s",
        type=number(0, 60),
        default=2.0,
        metavar="S",
        help="look for a neutral face so long, half of it if one is seen (default: 2)",
    )
    group.add_argument(
        "--background",
        metavar="KIND|FILE",
        help="cut the person out, so that the background stays still: own (the portrait's), blur (the same, blurred), "
        "green, another colour as #rrggbb, alpha (transparent in OUT.webm, elsewhere green), or a picture or a video, "
        "which is repeated (default: nothing is cut out)",
    )
    group.add_argument(
        "--background-blur",
        type=number(0, 1),
        default=LiveSettings().background_blur,
        metavar="STRENGTH",
        help="of --background blur, 0 to 1 (default: 0.5)",
    )
    group.add_argument(
        "--portrait-size",
        type=number(*PORTRAIT_SIZES),
        default=LiveSettings().portrait_size,
        metavar="SCALE",
        help="side of the portrait's square over the output's shorter side, 0.5 to 1.7 (default: 1)",
    )
    group.add_argument(
        "--portrait-x",
        type=number(-FARTHEST_SHIFT, FARTHEST_SHIFT),
        default=LiveSettings().portrait_x,
        metavar="SHARE",
        help="shift the portrait to the right by this share of the output's width, -0.5 to 0.5 (default: 0)",
    )
    group.add_argument(
        "--portrait-y",
        type=number(-FARTHEST_SHIFT, FARTHEST_SHIFT),
        default=LiveSettings().portrait_y,
        metavar="SHARE",
        help="likewise downwards, of the height (default: 0)",
    )
    group.add_argument(
        "--give-up-s",
        type=seconds(),
        default=60.0,
        metavar="S",
        help="fail when no frame was animated so long after model and portrait were ready, or when making them ready "
        "has stood still for so long (default: 60)",
    )
    group.add_argument(
        "--model-timeout-s",
        type=seconds(),
        default=2.5,
        metavar="S",
        help="show the slate when the model says nothing for so long (default: 2.5)",
    )
    group.add_argument(
        "--camera-timeout-s",
        type=seconds(),
        default=10.0,
        metavar="S",
        help="an opened camera must give a frame by then (default: 10)",
    )


if __name__ == "__main__":
    run()
