"""The ranges of a model's activations on the bundled faces, which computing in 8 bits needs."""

from mcnet.engine.quantization import note_ranges
from mcnet.generator import Mcnet
from mcnet.media.bundled import bundled_faces


def note_bundled_ranges(model: Mcnet) -> None:
    """Note in a model's `info` the ranges that its activations have on the bundled faces, whose keypoints are measured
    where the model's are points of the face mesh.

    Raises:
        QuantizationError: they are not finite.
        UserError: OpenCV does not load.
    """
    faces = bundled_faces(model.config.size_px, portraits=10, frames=4)
    points = list(model.keypoint_landmarks)
    places = None
    if points:
        places = faces.source_meshes[:, points, :2], faces.driving_meshes[:, points, :2]
    note_ranges(model, faces.sources, faces.driving, places)
