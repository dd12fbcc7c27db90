"""Words for the pipeline's facts that the window and the command line say alike."""

from app.pipeline.events import CameraDark, Measured
from app.space import Obstacle

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


def dark_camera_words(event: CameraDark) -> str:
    """What a camera behind a closed shutter gives, and what to do; without a full stop."""
    return f"{event.camera} gives a picture of one colour: open its shutter, or switch it on with its key"


def not_in_space_words(obstacle: Obstacle) -> str:
    """Why the avatar cannot be moved in space; without a full stop."""
    return _NOT_IN_SPACE[obstacle]
