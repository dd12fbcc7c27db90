"""The person cut out of a portrait: a matte and the background behind, made once, and how the matte follows the motion.

MediaPipe's selfie_segmentation (Apache-2.0) tells the person apart on 256 px; OpenCV runs it, as one of its operators
is none of OpenVINO's. Its edges are refined on the picture itself by a guided filter (He, Sun, Tang, "Guided Image
Filtering", 2013), and what a half transparent pixel shows of the background is taken out of its colour (Forte,
"Approximate Fast Foreground Colour Estimation", 2021). Everything takes and gives numpy's arrays.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from assets import ROOT as ASSETS
from mcnet.arrays import Rgb
from mcnet.media.errors import MediaError
from mcnet.media.face_mesh import checked_content
from mcnet.media.surroundings import NO_MARGINS, Margins, moving, on_pixels, places_px
from mcnet.phrases import phrase

MATTE_VERSION = 4
"""Of how mattes are made: one that was kept under another is not used."""
NETWORK = ASSETS / "models" / "selfie_segmentation.tflite"
_SHA256 = "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c"
_NETWORK_PX = 256

# Shares of the picture's side.
_BAND = 0.035
_RADIUS, _EPS = 0.03, 1e-4
_BEHIND, _DEEP = 0.025, 0.06
_MIRRORED = 0.05, 0.13  # behind the person's edge: whole, and not at all
_SMOOTH_EDGE, _SOFT = 0.035, 0.02
_ABOVE = 0.012
_HOLE = 0.5  # of alpha
_FOREGROUND_RADIUS = 0.05
_FOREGROUND_PX = 128
_FRINGE_PX = 7
_ROW = 1024
_TRACE = 0.02
_UNSURE, _SURE = 0.4, 0.7  # of the variance that the picture's colours explain
_SPECKLE_SIGMA, _OWN_SIGMA = 0.008, 0.005
_LEAST = 1e-5
_LEAST_PERSON = 0.01
"""Of the square's pixels: a portrait's face alone is several times that."""
_MOST_PIXELS = 1_500_000
"""Of a picture that is cut out as it is: some 235 bytes are taken for each."""


class Matte(NamedTuple):
    """A portrait, taken apart: its square, or a picture around that.

    Attributes:
        alpha: (H, W) float32 in [0, 1], the person's share of each pixel.
        plate: (H, W, 3) uint8 RGB, the background, filled in where the person was.
        padded: (H + n, W), `alpha` with n more rows above it, in which it ends.
        margins: of the square in the picture.
    """

    alpha: NDArray[np.float32]
    plate: Rgb
    padded: NDArray[np.float32]
    margins: Margins = NO_MARGINS

    @property
    def shows_nobody(self) -> bool:
        """Whether hardly anything of the square is the person's, as where the network saw no person at all."""
        return float(self.margins.square(self.alpha).mean()) < _LEAST_PERSON

    def of_square(self) -> "Matte":
        """That of the square alone."""
        if not any(self.margins):
            return self
        alpha = np.ascontiguousarray(self.margins.square(self.alpha))
        return Matte(alpha, np.ascontiguousarray(self.margins.square(self.plate)), _faded_above(alpha, len(alpha)))


class Cutout(NamedTuple):
    """A person without background.

    Attributes:
        colours: (H, W, 3) uint8 RGB of the person alone; where there is nothing of him they count for nothing.
        alpha: (H, W) float32 in [0, 1], the person's share of each pixel.
    """

    colours: Rgb
    alpha: NDArray[np.float32]

    def before(self, background: Rgb) -> Rgb:
        """The person before a picture of the same size."""
        return np.asarray(cv2.blendLinear(self.colours, background, self.alpha, 1 - self.alpha), np.uint8)

    def rgba(self) -> NDArray[np.uint8]:
        """(H, W, 4) uint8, straight alpha."""
        return np.dstack((self.colours, cv2.convertScaleAbs(self.alpha, alpha=255)))


def cut_out(picture: Rgb, margins: Margins = NO_MARGINS) -> Matte:
    """Find the person in a portrait.

    Args:
        picture: (H, W, 3) uint8 RGB, the square as the engine shows it, of 64 px at least, with what is around it.
        margins: of the square in the picture.

    Raises:
        MediaError: nobody is seen in it, or the bundled network is missing or damaged.
    """
    height, width = picture.shape[:2]
    if height * width > _MOST_PIXELS:
        matte = _cut_out_smaller(picture, margins, math.sqrt(_MOST_PIXELS / (height * width)))
    else:
        matte = _cut_out_as_it_is(picture, margins)
    if matte.shows_nobody:
        raise MediaError(phrase("no person is told apart from the background"))
    return matte


def _cut_out_as_it_is(picture: Rgb, margins: Margins) -> Matte:
    side = margins.side(picture)
    soft, others = _person(picture, margins)
    alpha = _refined(picture, soft, side)
    return Matte(alpha, _plate(picture, np.maximum(alpha, others), side), _faded_above(alpha, side), margins)


def _cut_out_smaller(picture: Rgb, margins: Margins, scale: float) -> Matte:
    """Likewise of a picture for which that would take too much memory: as that of a smaller one.

    What is seen of the background is the picture's own all the same.
    """
    height, width = picture.shape[:2]
    little = Margins(*(round(px * scale) for px in margins))
    side = round(margins.side(picture) * scale)
    little_px = (side + little.left + little.right, side + little.top + little.bottom)
    small = np.asarray(cv2.resize(picture, little_px, interpolation=cv2.INTER_AREA), np.uint8)
    matte = _cut_out_as_it_is(small, little)
    changed = (cv2.absdiff(matte.plate, small).max(axis=2) > 0).astype(np.float32)
    share = cv2.resize(cv2.dilate(changed, np.ones((5, 5))), (width, height), interpolation=cv2.INTER_LINEAR)
    larger = resized_matte(matte, margins.side(picture), margins)
    return larger._replace(plate=np.asarray(cv2.blendLinear(larger.plate, picture, share, 1 - share), np.uint8))


def resized_matte(matte: Matte, side: int, margins: Margins = NO_MARGINS) -> Matte:
    """A portrait's matte for pictures of another size: with no more of its edges than it had.

    Args:
        matte: of the portrait, in any size.
        side: of the square in the other one.
        margins: of the square there.
    """
    size_px = (margins.left + side + margins.right, margins.top + side + margins.bottom)
    how = cv2.INTER_AREA if size_px[1] < len(matte.alpha) else cv2.INTER_LINEAR
    alpha = np.asarray(cv2.resize(matte.alpha, size_px, interpolation=how), np.float32)
    plate = np.asarray(cv2.resize(matte.plate, size_px, interpolation=how), np.uint8)
    return Matte(alpha, plate, _faded_above(alpha, side), margins)


def _person(picture: Rgb, margins: Margins) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Where the person is, coarsely, (H, W) in [0, 1], and (H, W) 1 where others are.

    The network looks at the square, as closely as it can, and once more at the whole picture, where there is more of
    it: what it finds there counts outside of the square, if it hangs together with the person in it.
    """
    inside = _segmented(margins.square(picture))
    if not any(margins):
        return inside, np.zeros(inside.shape, np.uint8)
    height, width = picture.shape[:2]
    over = max(height, width)
    square = cv2.copyMakeBorder(picture, 0, over - height, 0, over - width, cv2.BORDER_REPLICATE)
    soft = np.ascontiguousarray(_segmented(np.asarray(square, np.uint8))[:height, :width])
    within = np.pad(np.ones_like(inside), [(margins.top, margins.bottom), (margins.left, margins.right)])
    depth = cv2.distanceTransform(within.astype(np.uint8), cv2.DIST_L2, 3)  # where there is no margin, whole at once
    share = np.clip(margins.square(np.asarray(depth, np.float32)) / (_BAND * len(inside)), 0, 1)
    square_of = margins.square(soft)
    square_of += share * (inside - square_of)
    _, parts = cv2.connectedComponents((soft > 0.5).astype(np.uint8))
    others = ~np.isin(parts, np.unique(margins.square(parts)))
    return np.where(others, np.float32(0), soft), others.astype(np.uint8)


def _segmented(square: Rgb) -> NDArray[np.float32]:
    """The network's own answer, (S, S) in [0, 1]."""
    checked_content(NETWORK, _SHA256)
    side = len(square)
    seen = cv2.resize(square, (_NETWORK_PX, _NETWORK_PX), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    network = cv2.dnn.readNetFromTFLite(str(NETWORK), cv2.dnn.ENGINE_CLASSIC)
    network.setInput(np.ascontiguousarray(seen.transpose(2, 0, 1))[None])
    answer = np.asarray(network.forward(), np.float32).reshape(_NETWORK_PX, _NETWORK_PX)
    return np.asarray(cv2.resize(answer, (side, side), interpolation=cv2.INTER_LINEAR), np.float32)


def _refined(picture: Rgb, soft: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """The network's answer with the edges of the picture: decided anew within a band, and sure of itself outside.

    Where person and background have the same colour (dark hair before a dark chair) the picture has no edge to give,
    and the guided filter would leave a half transparent smudge: there the network's own edge stays.
    """
    person = (soft > 0.5).astype(np.uint8)
    kernel = _disc(_BAND * side)
    inside, touched = cv2.erode(person, kernel), cv2.dilate(person, kernel)
    guide = picture.astype(np.float32) / np.float32(255)
    guided, explained = _guided(guide, person.astype(np.float32), round(_RADIUS * side))
    decided = (cv2.GaussianBlur(soft, (0, 0), _SPECKLE_SIGMA * side) > 0.5).astype(np.float32)
    own = cv2.GaussianBlur(decided, (0, 0), _OWN_SIGMA * side)
    alpha = own + _stretched(explained, _UNSURE, _SURE) * (_stretched(guided, 0.1, 0.9) - own)
    alpha[inside > 0] = 1
    alpha[touched == 0] = 0
    return np.asarray(alpha, np.float32)


def _stretched(values: cv2.typing.MatLike, low: float, high: float) -> NDArray[np.float32]:
    """0 up to `low`, 1 from `high` on, and a straight line between."""
    return np.asarray(np.clip((values - low) / (high - low), 0, 1), np.float32)


def _guided(
    guide: NDArray[np.float32], soft: NDArray[np.float32], radius: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The guided filter with a colour picture (S, S, 3) as guide: in each box `soft` is linear in its colour.

    Returns:
        (S, S) the filtered map, and (S, S) in [0, 1] how much of its variance around there the colours explain (R^2).
    """

    def mean(maps: NDArray[np.float32]) -> NDArray[np.float32]:
        size = 2 * radius + 1
        return np.asarray(cv2.blur(maps, (size, size), borderType=cv2.BORDER_REFLECT), np.float32)

    means, mean_soft = mean(guide), mean(soft)
    products = np.stack([mean(guide * guide[..., [channel]]) for channel in range(3)], -1)
    covariance = products - means[..., None, :] * means[..., None] + _EPS * np.eye(3, dtype=np.float32)
    with_soft = mean(guide * soft[..., None]) - means * mean_soft[..., None]
    slope = np.linalg.solve(covariance, with_soft[..., None])[..., 0]
    offset = mean_soft - (slope * means).sum(-1)
    variance = mean(mean(soft * soft) - mean_soft * mean_soft)
    explained = mean((slope * with_soft).sum(-1)) / (variance + _EPS)
    return np.asarray((mean(slope) * guide).sum(-1) + mean(offset), np.float32), np.asarray(explained, np.float32)


def _plate(picture: Rgb, people: NDArray[np.float32], side: int) -> Rgb:
    """The background alone: what lies behind people, and a little around, is filled in from what is seen of it.

    Right behind the person's edge, where a head that turns uncovers it, it is what is seen on the other side of that
    edge, mirrored: textures and lines that end at the person go on. Farther behind, inpainting goes on with these
    lines, which makes rays: there they are smoothed out.
    """
    hidden = cv2.dilate((people > _TRACE).astype(np.uint8), _disc(_BEHIND * side))
    if hidden.all():
        return np.full_like(picture, picture.reshape(-1, 3).mean(0).astype(np.uint8))
    filled = cv2.inpaint(picture, hidden, 3, cv2.INPAINT_TELEA)
    deep = np.clip(cv2.distanceTransform(hidden, cv2.DIST_L2, 3) / (_DEEP * side), 0, 1).astype(np.float32)
    smooth = cv2.GaussianBlur(filled, (0, 0), _DEEP * side)
    mirrored, share = _mirrored(picture, hidden, side)
    return np.asarray(
        cv2.blendLinear(mirrored, cv2.blendLinear(smooth, filled, deep, 1 - deep), share, 1 - share), np.uint8
    )


def _mirrored(picture: Rgb, hidden: cv2.typing.MatLike, side: int) -> tuple[cv2.typing.MatLike, NDArray[np.float32]]:
    """What is seen, mirrored at the edge of what is hidden, and how far that is to be used; what is seen stays.

    Args:
        picture: (H, W, 3).
        hidden: (H, W) uint8, 1 where nothing is seen; not everywhere.
        side: of the portrait's square.
    """
    height, width = hidden.shape
    depth, nearest = cv2.distanceTransformWithLabels(hidden, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    seen = hidden == 0
    edges = np.zeros((int(nearest.max()) + 1, 2), np.float32)
    edges[nearest[seen]] = np.argwhere(seen)[:, ::-1]
    here = np.stack(np.meshgrid(*(np.arange(size, dtype=np.float32) for size in (width, height))), axis=-1)
    # Each pixel by itself would look across the very next strand of hair.
    way = cv2.GaussianBlur((edges[nearest] - here) / np.maximum(depth, 1)[..., None], (0, 0), _SMOOTH_EDGE * side)
    way /= np.maximum(np.linalg.norm(way, axis=-1, keepdims=True), _LEAST)
    x, y = cv2.split(here + 2 * depth[..., None] * way)
    there = cv2.remap(hidden, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=(1,))
    usable = cv2.copyMakeBorder((there == 0).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    within = cv2.distanceTransform(usable, cv2.DIST_L2, 5)[1:-1, 1:-1] / (_SOFT * side) - 0.5
    near, far = _MIRRORED
    share = np.clip(within, 0, 1) * np.clip((far - depth / side) / (far - near), 0, 1)
    return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), share.astype(np.float32)


def _faded_above(alpha: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """The alpha with more rows above it, in which it ends: a head that is cut off by the picture's upper edge."""
    rows = max(1, round(_ABOVE * side))
    share = np.linspace(0, 1, rows + 1, dtype=np.float32)[:-1, None]
    return np.concatenate((alpha[:1] * share, alpha))


def _disc(radius: float) -> NDArray[np.uint8]:
    size = 2 * max(1, round(radius)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)


def cut_frame(matte: Matte, rgb: Rgb, deformation: NDArray[np.float32], occlusion: NDArray[np.float32]) -> Cutout:
    """The person in an animated picture.

    Args:
        matte: of the portrait.
        rgb: (H, W, 3) uint8 RGB, the animated picture, as large as the matte.
        deformation: (64, 64, 2) float32 of that frame, as `mcnet.arrays.Flow` has it.
        occlusion: (64, 64) float32, likewise.
    """
    alpha = moved_alpha(matte, deformation, occlusion)
    return Cutout(person_colours(rgb, alpha, matte.margins.side(alpha)), alpha)


def cut_portrait(matte: Matte, picture: Rgb) -> Cutout:
    """The person in the portrait itself, which `cut_out` was given."""
    return Cutout(person_colours(picture, matte.alpha, matte.margins.side(matte.alpha)), matte.alpha)


def moved_alpha(matte: Matte, deformation: NDArray[np.float32], occlusion: NDArray[np.float32]) -> NDArray[np.float32]:
    """The person's share of each pixel of an animated picture: the matte, moved as the picture was.

    Beyond the upper edge of the portrait the person ends; beyond the others he goes on, as shoulders do. What the
    portrait does not show is painted by the network, and looks, as everything, where the flow says: beside a turned
    head at the background, inside of a mouth at the lips. Where it looks at background in the midst of the person,
    it is a part of the person that was hidden: as far as the warp is not trusted there, the hole is closed.

    Args:
        matte: of the portrait.
        deformation: (64, 64, 2) float32 of one frame, as `mcnet.arrays.Flow` has it.
        occlusion: (64, 64) float32, likewise.

    Returns:
        (H, W) float32 in [0, 1].
    """
    side = matte.margins.side(matte.alpha)
    moves = moving(side, matte.margins)
    x, y = places_px(deformation, side, matte.margins, moves)
    y += np.float32(len(matte.padded) - len(matte.alpha))
    alpha = matte.alpha.copy()
    moves.of(alpha)[:] = cv2.remap(matte.padded, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    square = matte.margins.square(alpha)
    hidden = _holes(cv2.resize(square, occlusion.shape, interpolation=cv2.INTER_AREA)) * (1 - occlusion)
    if hidden.any():
        square += (1 - square) * on_pixels(hidden, len(square))
    return alpha


def _holes(alpha: cv2.typing.MatLike) -> NDArray[np.float32]:
    """1 where it is not the person, and the person is all around."""
    outside = cv2.copyMakeBorder((alpha < _HOLE).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    cv2.floodFill(outside, None, (0, 0), 0)
    return cv2.dilate(outside[1:-1, 1:-1], np.ones((3, 3), np.uint8)).astype(np.float32)


def person_colours(rgb: Rgb, alpha: NDArray[np.float32], side: int) -> Rgb:
    """The colours of the person alone: what is left of half transparent pixels without the background behind.

    Person and background are taken to be smooth near an edge, so that their means there, of what is mostly the one or
    the other, stand for them; and of the person what the pixel itself has beyond the mixture of the two.

    Args:
        rgb: (H, W, 3) uint8.
        alpha: (H, W) float32, the person's share of each pixel.
        side: of the portrait's square in the picture.

    Returns:
        (H, W, 3) uint8 RGB. Where there is nothing of the person it counts for nothing.
    """
    height, width = alpha.shape
    # The means are of wide neighbourhoods, and need no more pixels than that.
    scale = min(1.0, _FOREGROUND_PX / side)
    little_px = (round(width * scale), round(height * scale))
    picture = cv2.resize(rgb, little_px, interpolation=cv2.INTER_AREA).astype(np.float32)
    little = np.asarray(cv2.resize(alpha, little_px, interpolation=cv2.INTER_AREA), np.float32)
    size = 2 * max(1, round(_FOREGROUND_RADIUS * scale * side)) + 1
    # Inside of the person all is his; outside, colours count as far as they are mixed with when they are enlarged.
    near = cv2.dilate((alpha > 0).astype(np.uint8), np.ones((_FRINGE_PX, _FRINGE_PX), np.uint8)) > 0
    rows, columns = np.nonzero(near & (alpha < 1))
    if not rows.size:
        return rgb
    x, y = (
        (places + 0.5) * np.float32(little_px[axis] / (width, height)[axis]) - 0.5
        for axis, places in enumerate((columns, rows))
    )
    share = alpha[rows, columns, None]
    means = []
    for weight in (np.clip(2 * little - 1, _TRACE * little, 1), np.clip(1 - 2 * little, _TRACE * (1 - little), 1)):
        weighed = np.dstack((picture * weight[..., None], weight + _LEAST))
        mean = np.asarray(cv2.blur(weighed, (size, size), borderType=cv2.BORDER_REFLECT), np.float32)
        means.append(_at(np.asarray(mean[..., :3] / mean[..., 3:], np.float32), x, y))
    person, rest = means
    beyond = rgb[rows, columns] - (rest + share * (person - rest))
    colours = rgb.copy()
    colours[rows, columns] = np.clip(np.rint(person + share * beyond), 0, 255).astype(np.uint8)
    return colours


def _at(maps: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W, n) at (N,) places in its pixels, (N, n): linear between them."""
    rows = -(-len(x) // _ROW)  # OpenCV takes no row of any length
    there_x, there_y = (np.resize(places, (rows, _ROW)).astype(np.float32) for places in (x, y))
    found = cv2.remap(maps, there_x, there_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.float32).reshape(rows * _ROW, -1)[: len(x)]
