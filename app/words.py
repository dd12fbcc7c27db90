"""Words for the pipeline's facts that the window and the command line say alike."""

from app.pipeline.events import CameraDark, CameraOpened, Measured
from app.space import Obstacle
from mcnet.model_card import ModelCard

_SLOW_SHARE = 0.85
_NOT_IN_SPACE = {
    Obstacle.DETECTED: "the settings ask for detected keypoints, and this needs measured ones",
    Obstacle.MODEL: "this model's keypoints are not known points of a face",
    Obstacle.PORTRAIT: "no face was found in this portrait",
}


def measured_words(event: Measured) -> str:
    """What was measured, and why a GPU that is there is not used; without a full stop."""
    tier = event.tier
    words = [tier.sentence]
    if tier.best.way.device == "cpu":
        words += [f"the GPU is not used: {failure}" for failure in tier.failures if failure.way.device != "cpu"][:1]
    return "; ".join([*words, *map(str, event.unused_gpus)])


def too_slow_words(rate_hz: float) -> str:
    """That so many frames per second are too few for a call, and what to do; without a full stop."""
    return (
        f"about {rate_hz:.2g} frames per second are too slow for a call: close what else is running and press Measure "
        "under First steps, or use a computer with a GPU"
    )


def unmet_wishes_words(event: CameraOpened) -> str:
    """What a device was asked for and gives otherwise; "" where it gives all of it. Others were asked for nothing."""
    if event.spec.kind != "device":
        return ""
    asked, words = event.spec, []
    if (event.width_px, event.height_px) != (asked.width_px, asked.height_px):
        words.append(f"asked for {asked.width_px}x{asked.height_px}, gives {event.width_px}x{event.height_px}")
    if event.fps_hz < _SLOW_SHARE * asked.fps_hz:
        words.append(f"asked for {asked.fps_hz:g} frames/s, gives {event.fps_hz:g} (more light often helps)")
    return "; ".join(words)


def dark_camera_words(event: CameraDark) -> str:
    """What a camera behind a closed shutter gives, and what to do; without a full stop."""
    return f"{event.camera} gives a picture of one colour: open its shutter, or switch it on with its key"


def not_in_space_words(obstacle: Obstacle) -> str:
    """Why the avatar cannot be moved in space; without a full stop."""
    return _NOT_IN_SPACE[obstacle]


def card_lines(card: ModelCard | None, frame_ms: float | None) -> list[str]:
    """What a model's card says, and how fast it is here, a line each.

    Args:
        card: None where there is none, as of the authors' files.
        frame_ms: measured here; None where it was not.
    """
    speed = "Speed here: not measured yet" if frame_ms is None else f"Speed here: {frame_ms:.3g} ms per frame, measured"
    if card is None:
        return ["No card: nobody tells what it learned from, or how good it is", speed]
    lines = [f"{card.config.size_px} px, {card.parameters / 1e6:.2g} M parameters"]
    if card.learning:
        lines.append(learning_words(card))
    lines.append(f"Licence: {card.licence or 'not stated'}")
    figures = {} if card.evaluation is None else card.evaluation.figures
    told = [f"{name} {figures[key]:.0%}" for key, name in _OF_COPYING if key in figures]
    told += [f"{name} {figures[key]:.2f}" for key, name in _CORRELATIONS if key in figures]
    if told and card.evaluation is not None:
        of = f" ({card.evaluation.clips} clips that it never saw)" if card.evaluation.clips else ""
        lines.append(f"Figures: {', '.join(told)}{of}")
    elif not card.learning:
        lines.append("Figures: not measured")
    return [*lines, speed]


_OF_COPYING = (("l1_of_copying", "L1 of copying"), ("akd_of_copying", "AKD of copying"))
_CORRELATIONS = (("mouth_correlation", "mouth"), ("lids_correlation", "lids"))


def learning_words(card: ModelCard) -> str:
    """How far a run that still learns has come; without a full stop."""
    of = card.training.get("of_steps")
    step = "step unknown" if card.steps is None else f"step {card.steps}"
    words = [f"Still learning: {step}" + (f" of {of}" if type(of) is int else "")]
    for facts, key, name in (
        ("held_out", "held_out_predicted_of_copied", "L1 of copying"),
        ("held_out", "held_out_warped_of_copied", "warped L1 of copying"),
        ("last", "predicted_of_copied", "L1 of copying, of what it learns from"),
        ("last", "warped_of_copied", "warped L1 of copying, of what it learns from"),
    ):
        values = card.training.get(facts)
        value = values.get(key) if isinstance(values, dict) else None
        if isinstance(value, int | float):
            words.append(f"{name} {value:.0%}")
            break
    return ", ".join(words)
