"""Words for the pipeline's facts that the window and the command line say alike."""

from app.pipeline.events import CameraDark, CameraOpened, Measured
from app.space import Obstacle

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
