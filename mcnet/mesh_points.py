"""Points of MediaPipe's face mesh by what they are part of, for measuring, drawing and training alike.

Numbers are indices into its mesh of 468 points, and of ten more on the irises. Left and right are the person's own.
"""

MESH_SIZE = 478
"""Of the mesh with its irises."""

MOUTH_CORNERS = (78, 308)
"""Where the inner lips meet: the right corner, then the left one."""
RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS = (33, 133), (263, 362)
"""The outer corner, then the inner one."""
RIGHT_LIDS, LEFT_LIDS = (159, 145), (386, 374)
"""The middle of the upper lid, then of the lower one."""

LIP_PAIRS = ((191, 80, 81, 82, 13, 312, 311, 310, 415), (95, 88, 178, 87, 14, 317, 402, 318, 324))
LEFT_LID_PAIRS = ((466, 388, 387, 386, 385, 384, 398), (249, 390, 373, 374, 380, 381, 382))
RIGHT_LID_PAIRS = ((246, 161, 160, 159, 158, 157, 173), (7, 163, 144, 145, 153, 154, 155))
"""Points that face each other from corner to corner: those of the upper lip or lid, and those of the lower one."""

INNER_LIPS = (MOUTH_CORNERS[0], *LIP_PAIRS[1], MOUTH_CORNERS[1], *LIP_PAIRS[0][::-1])
"""As a ring from the right corner along the lower lip to the left one and back."""
LEFT_EYE_RING = (LEFT_EYE_CORNERS[0], *LEFT_LID_PAIRS[1], LEFT_EYE_CORNERS[1], *LEFT_LID_PAIRS[0][::-1])
RIGHT_EYE_RING = (RIGHT_EYE_CORNERS[0], *RIGHT_LID_PAIRS[1], RIGHT_EYE_CORNERS[1], *RIGHT_LID_PAIRS[0][::-1])
"""The edges of the lids, from the outer corner along the lower lid to the inner one and back: the n-th point of one eye
mirrors the n-th of the other."""

RIGHT_IRIS, LEFT_IRIS = slice(468, 473), slice(473, 478)
"""The centre, then four points of the edge; a mesh without irises has none of them."""
