"""Words for the pipeline's facts that the window and the command line say alike."""

from app.pipeline.events import CameraDark, CameraOpened, Measured, MotionRefused
from app.space import Obstacle
from mcnet.model_card import ModelCard
from mcnet.phrases import listed, phrase

_SLOW_SHARE = 0.85
_NOT_IN_SPACE = {
    Obstacle.DETECTED: phrase("the settings ask for detected keypoints, and this needs measured ones"),
    Obstacle.MODEL: phrase("this model's keypoints are not known points of a face"),
    Obstacle.PORTRAIT: phrase("no face was found in this portrait"),
}


def measured_words(event: Measured) -> str:
    """What was measured, and why a GPU that is there is not used; without a full stop."""
    tier = event.tier
    words = [tier.sentence]
    if tier.best.way.device == "cpu":
        failures = [failure for failure in tier.failures if failure.way.device != "cpu"]
        words += [phrase("the GPU is not used: {failure}", failure=failure) for failure in failures[:1]]
    return listed([*words, *map(str, event.unused_gpus)], ";")


def too_slow_words(rate_hz: float) -> str:
    """That so many frames per second are too few for a call, and what to do; without a full stop."""
    return phrase(
        "about {rate_hz:.2g} frames per second are too slow for a call: close what else is running and press Measure "
        "under First steps, or use a computer with a GPU",
        rate_hz=rate_hz,
    )


def unmet_wishes_words(event: CameraOpened) -> str:
    """What a device was asked for and gives otherwise; "" where it gives all of it. Others were asked for nothing."""
    if event.spec.kind != "device":
        return ""
    asked, words = event.spec, []
    if (event.width_px, event.height_px) != (asked.width_px, asked.height_px):
        words.append(
            phrase(
                "asked for {asked}, gives {given}",
                asked=f"{asked.width_px}x{asked.height_px}",
                given=f"{event.width_px}x{event.height_px}",
            )
        )
    if event.fps_hz < _SLOW_SHARE * asked.fps_hz:
        words.append(
            phrase(
                "asked for {asked_hz:g} frames/s, gives {given_hz:g} (more light often helps)",
                asked_hz=asked.fps_hz,
                given_hz=event.fps_hz,
            )
        )
    return listed(words, ";")


def motion_refused_words(event: MotionRefused) -> str:
    """Why a motion file moves nothing, for people, without a full stop."""
    if event.in_the_plane:
        return phrase("a motion file has no pictures, so that it moves the avatar in space only: choose that motion")
    return phrase(
        "a motion file has no pictures in which this model could detect keypoints: choose a model and a portrait whose "
        "keypoints can be measured, as the starter and any portrait with a face"
    )


def missed_calibration_words() -> str:
    """That no face was there to calibrate by, and what to do; without a full stop."""
    return phrase("no face was seen, so that nothing was calibrated: look into the camera, and calibrate again")


def dark_camera_words(event: CameraDark) -> str:
    """What a camera behind a closed shutter gives, and what to do; without a full stop."""
    return phrase(
        "{camera} gives a picture of one colour: open its shutter, or switch it on with its key", camera=event.camera
    )


def not_in_space_words(obstacle: Obstacle) -> str:
    """Why the avatar cannot be moved in space; without a full stop."""
    return _NOT_IN_SPACE[obstacle]


def card_lines(card: ModelCard | None, frame_ms: float | None) -> list[str]:
    """What a model's card says, and how fast it is here, a line each.

    Args:
        card: None where there is none, as of the authors' files.
        frame_ms: measured here; None where it was not.
    """
    if frame_ms is None:
        speed = phrase("Speed here: not measured yet")
    else:
        speed = phrase("Speed here: {frame_ms:.3g} ms per frame, measured", frame_ms=frame_ms)
    if card is None:
        return [phrase("No card: nobody tells what it learned from, or how good it is"), speed]
    size_px, millions = card.config.size_px, card.parameters / 1e6
    lines: list[str] = [phrase("{size_px} px, {millions:.2g} M parameters", size_px=size_px, millions=millions)]
    if card.learning:
        lines.append(learning_words(card))
    lines.append(phrase("Licence: {licence}", licence=card.licence or phrase("not stated")))
    figures = {} if card.evaluation is None else card.evaluation.figures
    told = [
        phrase("{measure} {share:.0%}", measure=name, share=figures[key]) for key, name in _OF_COPYING if key in figures
    ]
    told += [
        phrase("{measure} {value:.2f}", measure=name, value=figures[key])
        for key, name in _CORRELATIONS
        if key in figures
    ]
    if told and card.evaluation is not None and card.evaluation.clips:
        lines.append(
            phrase(
                "Figures: {figures} ({n} clips that it never saw)",
                one="Figures: {figures} ({n} clip that it never saw)",
                figures=listed(told),
                n=card.evaluation.clips,
            )
        )
    elif told:
        lines.append(phrase("Figures: {figures}", figures=listed(told)))
    elif not card.learning:
        lines.append(phrase("Figures: not measured"))
    return [*lines, speed]


_OF_COPYING = (("l1_of_copying", phrase("L1 of copying")), ("akd_of_copying", phrase("AKD of copying")))
_CORRELATIONS = (
    ("mouth_correlation", phrase("mouth", meaning="measure")),
    ("lids_correlation", phrase("lids", meaning="measure")),
)


def learning_words(card: ModelCard) -> str:
    """How far a run that still learns has come; without a full stop."""
    of = card.training.get("of_steps")
    if card.steps is None:
        step = phrase("Still learning: step unknown")
    elif type(of) is int:
        step = phrase("Still learning: step {step} of {of}", step=card.steps, of=of)
    else:
        step = phrase("Still learning: step {step}", step=card.steps)
    for facts, key, name in (
        ("held_out", "held_out_predicted_of_copied", phrase("L1 of copying")),
        ("held_out", "held_out_warped_of_copied", phrase("warped L1 of copying")),
        ("last", "predicted_of_copied", phrase("L1 of copying, of what it learns from")),
        ("last", "warped_of_copied", phrase("warped L1 of copying, of what it learns from")),
    ):
        values = card.training.get(facts)
        value = values.get(key) if isinstance(values, dict) else None
        if isinstance(value, int | float):
            return listed([step, phrase("{measure} {share:.0%}", measure=name, share=float(value))])
    return step
