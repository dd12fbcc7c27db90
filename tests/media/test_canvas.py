"""What drawings are made of."""

import numpy as np
import pytest

from mcnet.media.canvas import Canvas
from mcnet.media.head_motion import Array

SQUARE_PX = np.array(((9.0, 19.0), (31.0, 19.0), (31.0, 41.0), (9.0, 41.0)))
TRIANGLES = np.array(((0, 1, 2), (0, 2, 3)))


def sloping(places: Array) -> Array:
    """(..., 2): two values that grow with x and y."""
    return np.stack((3 * places[..., 0] - places[..., 1], 0.5 * places[..., 1] + 2), -1)


@pytest.mark.parametrize("factor", [1, 4])
def test_between_corners_values_are_linear_in_every_size_of_a_canvas(factor: int) -> None:
    canvas = Canvas(slice(16, 48), slice(8, 40), factor)
    (first, second), within = canvas.interpolated(SQUARE_PX[TRIANGLES], sloping(SQUARE_PX)[TRIANGLES], (100.0, 100.0))
    rows, columns = np.nonzero(within)
    assert len(rows) == pytest.approx(22 * 22 * factor**2, rel=0.12)
    places = (np.stack((columns, rows), 1) + 0.5) / factor - 0.5 + canvas.origin_px
    np.testing.assert_allclose(np.stack((first, second), -1)[within], sloping(places), atol=1e-3)
    assert not first[~within].any()


def test_in_a_thin_triangle_values_stay_near_those_of_its_corners() -> None:
    corners = np.array((((10.0, 20.0), (30.0, 20.0), (20.0, 20.2)),))
    values = np.array((((0.0, 0.0), (0.0, 0.0), (50.0, 1.0)),))
    (first, second), within = Canvas(slice(16, 48), slice(8, 40)).interpolated(corners, values, (1.0, 0.0))
    assert within.any()
    assert -1 <= first.min() <= first.max() <= 51
    assert 0 <= second.min() <= second.max() <= 1


def test_a_later_triangle_covers_an_earlier_one() -> None:
    corners = np.stack((SQUARE_PX[[0, 1, 2]], SQUARE_PX[[0, 1, 2]] + 2))
    values = np.array((((1.0,),) * 3, ((2.0,),) * 3))
    (shown,), _ = Canvas(slice(16, 48), slice(8, 40)).interpolated(corners, values, (0.0,))
    assert shown[25 - 16, 25 - 8] == 2
    assert set(np.unique(shown).tolist()) == {0, 1, 2}
