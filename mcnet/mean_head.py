"""A mean head: the common frame in which poses and faces are told apart, live and in training."""

import numpy as np

RIGID_POINTS = (33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 127, 356, 234, 454, 10, 151, 9, 98, 327, 2)
"""What neither mouth nor lids nor brows move: eye corners, nose, forehead, temples, sides of the face. Numbers are
indices into MediaPipe's 468-point mesh."""
RIGID_SHAPE = np.array(
    [
        (-0.855, -0.152, 0.124),
        (-0.333, -0.123, 0.023),
        (0.333, -0.123, 0.023),
        (0.855, -0.152, 0.124),
        (0.000, -0.225, -0.306),
        (0.000, -0.077, -0.381),
        (0.000, 0.063, -0.468),
        (0.000, 0.193, -0.563),
        (0.000, 0.333, -0.663),
        (0.000, 0.503, -0.699),
        (-1.278, -0.088, 1.066),
        (1.278, -0.088, 1.066),
        (-1.263, 0.176, 1.174),
        (1.263, 0.176, 1.174),
        (0.000, -1.139, -0.281),
        (0.000, -0.838, -0.328),
        (0.000, -0.522, -0.357),
        (-0.350, 0.672, -0.193),
        (0.350, 0.672, -0.193),
        (0.000, 0.738, -0.344),
    ]
)
"""The rigid points of a mean head, in their order: the Procrustes mean of 179 portraits and their mirror images, which
look into the camera. It is centred, x to the picture's right, y downwards, z away from the camera, in face sizes (its
root mean square distance from its mean). Single portraits differ from it by 0.04 face sizes (root mean square)."""
