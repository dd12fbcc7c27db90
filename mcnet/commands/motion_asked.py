"""Which motion moves a portrait: what was asked for, and what model, portrait and performer allow."""

import argparse
import itertools
import sys
from typing import TYPE_CHECKING

from mcnet.commands.arguments import check_motion_options
from mcnet.commands.footage import Performance

if TYPE_CHECKING:
    from mcnet.arrays import Rgb
    from mcnet.commands.drives import KeypointDrive, Shot
    from mcnet.engine import Engine
    from mcnet.generator import Mcnet
    from mcnet.media.motion_track import TrackDriving, TrackRecorder
    from mcnet.media.video import DrivingVideo
    from mcnet.model_file import ModelFile


def check_motion(args: argparse.Namespace, model: "ModelFile | Mcnet") -> bool:
    """See that the options for motion and keypoints go together, and with the model.

    Returns:
        Whether keypoints are to be measured, where faces are found.

    Raises:
        UserError: they do not.
    """
    from mcnet.media.errors import MediaError
    from mcnet.model_file import may_detect, meant_landmarks

    check_motion_options(args)
    measurable = bool(meant_landmarks(model))
    if args.keypoints == "detected":
        if not may_detect(model):
            raise MediaError(
                f"--keypoints detected: model {model.info.name} was trained on measured keypoints only and cannot "
                "detect any; use --keypoints measured, or another model"
            )
        return False
    if not measurable and (args.motion == "space" or args.keypoints == "measured"):
        option = "--motion space" if args.motion == "space" else "--keypoints measured"
        raise MediaError(
            f"{option}: nothing says which points of a face the keypoints of model {model.info.name} are, so they can "
            "only be detected: use --motion plane --keypoints detected, or the model starter"
        )
    return measurable


def make_drive(
    args: argparse.Namespace,
    engine: "Engine",
    source: "Shot",
    driving: "DrivingVideo | TrackDriving",
    performance: Performance,
    *,
    measurable: bool,
    retouch: bool,
    larger: "Rgb | None" = None,
) -> "KeypointDrive":
    """Choose how the portrait is moved, and from which frame its motion counts: in space, from one of each performer's.

    Args:
        args: of `add_motion_options`.
        engine: gets its source here, and its reference pose.
        source: the portrait.
        driving: who moves it.
        performance: what was found there.
        measurable: whether keypoints are to be measured, where faces are found.
        retouch: see `SpaceDrive`; other motion knows no head to draw on.
        larger: see `KeypointDrive`.

    Raises:
        MediaError: there is no frame, or what was asked for wants a face where there is none.
    """
    from mcnet.commands.drives import KnownDrive, PlaneDrive, SpaceDrive
    from mcnet.media.crop import best_reference_frame
    from mcnet.media.errors import MediaError
    from mcnet.media.head_motion import Head
    from mcnet.media.motion_track import TrackDriving

    faces = performance.faces
    measured = measurable and source.face is not None and any(face is not None for face in faces)
    if measurable and not measured:
        lacking = "the portrait" if source.face is None else "the video"
        if engine.detects and (args.keypoints == "measured" or args.motion == "space"):
            raise MediaError(f"no face in {lacking}: measured keypoints need one; use --keypoints detected")
        if not engine.detects:
            raise MediaError(
                f"no face in {lacking}: model {engine.model_name} was trained on measured keypoints only and cannot "
                "detect any; take a picture and a video that show a face, or another model"
            )
        print(f"keypoints are detected, since {lacking} shows no face that can be measured", file=sys.stderr)
    in_space = measured and args.motion != "plane" and not args.absolute
    others: list[int] = []
    if in_space:
        assert performance.performers is not None
        reference, *others = performance.performers.references
    elif args.best_frame:
        assert source.face is not None
        reference = best_reference_frame(source.face, faces)
    else:
        reference = next((index for index, face in enumerate(faces) if face is not None), 0)
    frame = next(itertools.islice(driving, reference, None), None)
    if frame is None:
        raise MediaError(f"{args.driving} has no frame to start from: expected a video or pictures of a face")
    start = performance.shot(reference, frame, engine.config.size_px)
    if in_space:
        # All frames are of one size, and of the others' the faces alone are asked for.
        heads = [Head.of(performance.shot(other, frame, engine.config.size_px).mesh()) for other in others]
        return SpaceDrive(engine, source, start, heads, retouch=retouch, larger=larger)
    make: type[PlaneDrive] | type[KnownDrive] = PlaneDrive
    if isinstance(driving, TrackDriving) and not (measured and engine.places_suffice):
        check_known(args, driving, engine, measured=measured)
        make = KnownDrive
    return make(
        engine,
        source,
        None if args.absolute else start,
        measured=measured,
        adapt_scale=not args.no_adapt_scale,
        larger=larger,
    )


def check_known(args: argparse.Namespace, driving: "TrackDriving", engine: "Engine", *, measured: bool) -> None:
    """See that a motion file has the keypoints that motion in the plane needs, where there is no picture to find them.

    Raises:
        MediaError: it has none, or another model's, or they were found in another way.
    """
    from mcnet.media.errors import MediaError

    found, name = driving.track.keypoints, engine.model_name
    if found is None:
        got = "the motion of a face mesh only"
    elif found.model != weights_of(engine):
        got = f"keypoints of model {driving.track.model_name}"
    elif found.measured != measured:
        got = f"{'measured' if found.measured else 'detected'} keypoints"
    else:
        return
    wanted = f"{'measured' if measured else 'detected'} keypoints of model {name}"
    asked = "--absolute" if args.absolute else "--motion plane" if args.motion == "plane" else "motion in the plane"
    detected = ["--keypoints detected"] if args.keypoints == "detected" else []
    if found is not None and found.model == weights_of(engine) and measured:
        way = "use --keypoints detected"
    elif found is not None and found.model == weights_of(engine) and detected:
        way = "leave --keypoints detected out"
    else:
        without = [*(["--absolute"] if args.absolute else []), *detected]
        use = f"leave {' and '.join(without)} out, and use" if without else "use"
        anew = " and ".join(["this model", *([] if args.absolute else ["--motion plane"]), *detected])
        way = (
            f"{use} --motion space with a model whose keypoints can be measured, as the starter's, or save the motion "
            f"anew with {anew}"
        )
    raise MediaError(f"{driving.path} has {got}, and {asked} needs {wanted}: {way}")


def weights_of(engine: "Engine") -> str:
    """What tells a model's keypoints from another's, whatever the precision that they are computed in."""
    return engine.fingerprint.rpartition("/")[0]


def motion_recorder(engine: "Engine", drive: "KeypointDrive") -> "TrackRecorder":
    """What keeps the performer's motion."""
    from mcnet.media.motion_track import TrackRecorder

    return TrackRecorder(weights_of(engine), engine.model_name, measured=drive.measures)
