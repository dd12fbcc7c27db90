"""The ranges of a model's activations on the bundled faces, which computing in 8 bits needs."""

from mcnet.engine.quantization import note_ranges
from mcnet.generator import Mcnet
from mcnet.media.bundled import bundled_faces


def note_bundled_ranges(model: Mcnet) -> None:
    """Note in a model's `info` the ranges that its activations have on the bundled faces.

    Raises:
        QuantizationError: they are not finite.
        UserError: OpenCV does not load.
    """
    note_ranges(model, *bundled_faces(model.config.size_px, portraits=10, frames=4))
