"""Pictures of numbers whose picture can be worked out."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mcnet.arrays import Keypoints
from mcnet.geometry import coordinate_grid
from mcnet.inspection.drawing import (
    Components,
    arrows,
    deformed_lattice,
    flow_colours,
    flow_wheel,
    grey,
    heat,
    hues,
    inner,
    keypoint_dots,
    liveliest,
    mask_colours,
    montage,
    over,
)
from mcnet.inspection.sheet import BACKGROUND, Panel, sheet


def constant(x: float, y: float, side: int = 8) -> Tensor:
    return torch.tensor((x, y)).expand(side, side, 2)


@pytest.mark.parametrize(
    ("x", "y", "colour"),
    [
        (0.0, 0.0, (255, 255, 255)),
        (0.1, 0.0, (255, 0, 0)),
        (-0.1, 0.0, (0, 255, 255)),
        (0.0, 0.1, (128, 255, 0)),
        (0.0, -0.1, (128, 0, 255)),
        (0.05, 0.0, (255, 128, 128)),
        (0.9, 0.0, (255, 0, 0)),
    ],
)
def test_colours_of_known_motions(x: float, y: float, colour: tuple[int, int, int]) -> None:
    drawn = flow_colours(constant(x, y), most=0.1)
    assert np.abs(drawn.astype(int) - colour).max() <= 1


def test_the_wheel_shows_each_motion_at_its_place() -> None:
    wheel = flow_wheel(101, 24).astype(int)
    assert np.abs(wheel[50, 50] - 255).max() <= 6
    for (row, column), (x, y) in {(50, 96): (1, 0), (50, 4): (-1, 0), (96, 50): (0, 1), (4, 50): (0, -1)}.items():
        assert np.abs(wheel[row, column] - flow_colours(constant(x, y, 1), 1.0)[0, 0]).max() <= 12
    assert (wheel[0, 0] == 24).all()


def test_arrows_point_where_the_content_went() -> None:
    still = arrows(np.zeros((256, 256, 3), np.uint8), constant(0, 0, 64))
    moved = arrows(np.zeros((256, 256, 3), np.uint8), constant(10 * 2 / 255, 0, 64))
    # The arrow that ends at (136, 136) begins 10 px to the left of it, and is broad behind its tip.
    assert not still[136, 123:134].any()
    assert (moved[136, 127:134].max(axis=1) > 100).all()
    assert not moved[136, 124].any()
    height = moved[130:143].any(axis=2).sum(axis=0)
    assert height[132] > height[135] > 0
    assert height[132] > height[128] > 0


def test_a_lattice_at_rest_is_straight_and_moves_as_the_picture_does() -> None:
    source = torch.zeros(1, 3, 64, 64)
    grid = coordinate_grid(64, 64, source)[None]
    at_rest = deformed_lattice(source, grid, "zeros", 257)
    lines = at_rest[8].max(axis=1) > 100
    assert lines.nonzero()[0].tolist() == list(range(0, 257, 16))
    shifted = deformed_lattice(source, grid + torch.tensor((4 * 2 / 256, 0.0)), "zeros", 257)
    assert (shifted[8].max(axis=1) > 100).nonzero()[0].tolist() == list(range(12, 257, 16))


def test_a_mask_has_its_keypoints_colour() -> None:
    mask = torch.zeros(4, 8, 8)
    mask[2, :, :4], mask[0, :, 4:] = 1, 1
    drawn = mask_colours(mask, 8)
    assert np.abs(drawn[4, 1].astype(int) - hues(3)[1]).max() <= 1
    assert (drawn[4, 6] == 40).all()


def test_a_share_is_laid_over_the_picture() -> None:
    rgb = np.full((8, 8, 3), 100, np.uint8)
    share = torch.cat((torch.zeros(8, 4), torch.ones(8, 4)), dim=1)
    drawn = over(rgb, share, np.array((255, 0, 0), np.uint8))
    assert drawn[0, 0].tolist() == [45, 45, 45]
    assert drawn[0, 7].tolist() == [255, 0, 0]


def test_values_as_heat_and_as_grey() -> None:
    values = torch.tensor([[0.0, 1.0, 2.0]])
    ends = heat(values, 2.0)
    assert ends[0, 0].tolist() == heat(torch.zeros(1, 1))[0, 0].tolist()
    assert ends[0, 2].tolist() == heat(torch.ones(1, 1))[0, 0].tolist()
    assert ends[0, 2].astype(int).sum() > ends[0, 0].astype(int).sum()
    assert grey(values, 0, 2)[0, :, 0].tolist() == [0, 128, 255]


def test_keypoints_are_drawn_at_their_places() -> None:
    value = torch.tensor([[[-0.5, -0.5], [0.5, 0.5], [0.0, 0.9]]])
    jacobian = torch.eye(2).expand(1, 3, 2, 2)
    background = np.full((201, 201, 3), 90, np.uint8)
    drawn = keypoint_dots(background, Keypoints(value, jacobian))
    bare = keypoint_dots(background, Keypoints(value, jacobian), numbered=False)
    for (x, y), colour in zip(((50, 50), (150, 150), (100, 190)), hues(3), strict=True):
        for picture in (drawn, bare):
            assert np.abs(picture[y, x].astype(int) - colour).max() <= 2
        assert np.abs(drawn[y, x + 8].astype(int) - colour).max() <= 40  # the axis to the right, 9 px long
        assert (bare[y, x + 8] == 90).all()
    assert (background == 90).all()


def test_components_are_one_basis_for_several_features() -> None:
    """Features made of three known patterns: red, green and blue tell them apart, alike in both."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.linalg.qr(torch.randn(12, 3, generator=generator))[0]
    strengths = torch.tensor((9.0, 3.0, 1.0))
    one, other = (torch.randn(3, 64, generator=generator) * strengths[:, None] for _ in range(2))
    before, after = ((patterns @ strength).reshape(12, 8, 8) for strength in (one, other))
    basis = Components.of(before, after)
    assert torch.allclose(basis.axes.T @ basis.axes, torch.eye(3, dtype=torch.float64), atol=1e-9)
    # The patterns span all that varies, so three components give everything back.
    for feature in (before, after):
        back = basis.axes @ basis.project(feature).flatten(1) + basis.mean[:, None]
        assert torch.allclose(back, feature.double().flatten(1), atol=1e-5)
    spread = torch.cat((basis.project(before), basis.project(after)), dim=2).flatten(1).var(dim=1)
    assert spread[0] > spread[1] > spread[2]
    same = before.clone()
    same[:, 0, 0] = after[:, 3, 5]
    assert basis.picture(same, 8)[0, 0].tolist() == basis.picture(after, 8)[3, 5].tolist()


def test_components_of_fewer_channels_than_colours() -> None:
    feature = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))
    drawn = Components.of(feature).picture(feature, 4)
    assert drawn.shape == (4, 4, 3)
    assert not drawn[..., 2].any()


def test_the_liveliest_channels_are_those_inside() -> None:
    maps = torch.zeros(4, 16, 16)
    maps[0, 0] = 100  # a border alone
    maps[1, 8, :8] = 2
    maps[3, 8, :8] = 5
    assert liveliest(maps, 2) == [1, 3]
    assert inner(maps).shape == (4, 12, 12)
    tiles = montage(maps, [1, 3], 2, 66)
    assert tiles.shape == (66, 66, 3)
    assert tiles[17, 5].tolist() == [255, 255, 255]  # row 8 of 16 at two pixels each
    assert not tiles[40:, :].any()


def test_a_sheet_has_room_for_its_words() -> None:
    red = np.full((60, 100, 3), (255, 0, 0), np.uint8)
    short = sheet("A title", [[Panel(red, "a"), Panel(red, "b")]])
    long = sheet("A title", [[Panel(red, "a " * 60), Panel(red, "b")]], note="told " * 80)
    assert short.shape[0] < long.shape[0]
    assert short.shape[1] == long.shape[1] == 2 * 100 + 3 * 12
    for one in (short, long):
        assert one.shape[0] % 2 == one.shape[1] % 2 == 0
        assert (one == (255, 0, 0)).all(axis=2).sum() == 2 * 60 * 100
        assert (one[:, 0] == BACKGROUND).all()
        assert (one[:, -1] == BACKGROUND).all()
