"""A little made-up dataset: heads that are ellipses, with landmarks that move along."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mcnet.bench import ranges
from mcnet.mean_head import RIGID_POINTS, RIGID_SHAPE
from mcnet.media.bundled import Faces, bundled_faces
from mcnet.mesh_points import INNER_LIPS, LEFT_EYE_RING, RIGHT_EYE_RING
from training.data import PACKED_FORMAT, Clip, ClipTable, Landmarks, write_landmarks, write_table
from training.fit.config import FitConfig
from training.landmarks import MOUTH_POINTS, TRAINING_POINTS

SIZE_PX = 128
"""Of made-up pictures, and of the tiny network that learns from them: half the side that is shipped, a fourth of the
work; what learns from pictures of 256 px is in test_measured_chain.py, and of 512 px in test_recipe.py.
"""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Bit-identical results are promised for one process with the same number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(autouse=True, scope="module")
def _few_faces() -> Iterator[None]:
    """An export measures the ranges of activations on two bundled portraits and two frames, not on ten and four."""

    def few(size_px: int, *, portraits: int, frames: int) -> Faces:
        assert (portraits, frames) == (10, 4), "what the product measures on"
        return bundled_faces(size_px, portraits=2, frames=2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "bundled_faces", few)
        yield


def head(person: int, x: float, y: float, mouth: float) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A picture of an ellipse with eyes and a mouth, and (P, 2) landmarks in shares of the side."""
    rng = np.random.default_rng(person)
    skin, background = rng.integers(120, 230, 3), rng.integers(20, 110, 3)
    column = (np.arange(SIZE_PX) + 0.5) / SIZE_PX
    across, down = column[None, :], column[:, None]
    picture = np.empty((SIZE_PX, SIZE_PX, 3))
    picture[:] = background + 40 * np.sin(9 * across + person)[..., None]
    picture[((across - x) / 0.22) ** 2 + ((down - y) / 0.3) ** 2 < 1] = skin

    def ring(count: int, dx: float, dy: float, width: float, height: float, start: float, turn: float) -> np.ndarray:
        angle = start + turn * np.linspace(0, 2 * np.pi, count, endpoint=False)
        return np.stack((x + dx + width * np.cos(angle), y + dy + height * np.sin(angle)), -1)

    places = dict.fromkeys(TRAINING_POINTS, np.array([x, y]))
    rings = (
        (MOUTH_POINTS, ring(20, 0, 0.15, 0.08, mouth, np.pi, -1)),
        (INNER_LIPS, ring(20, 0, 0.15, 0.06, 0.7 * mouth, np.pi, -1)),
        (RIGHT_EYE_RING, ring(16, -0.09, -0.07, 0.04, 0.02, np.pi, -1)),
        (LEFT_EYE_RING, ring(16, 0.09, -0.07, 0.04, 0.02, 0, 1)),
    )
    for points, ring_places in rings:
        places |= dict(zip(points, ring_places, strict=True))
        low, high = ring_places.min(0), ring_places.max(0)
        inside = ((across - (low + high)[0] / 2) / ((high - low)[0] / 2)) ** 2
        inside = inside + ((down - (low + high)[1] / 2) / ((high - low)[1] / 2)) ** 2
        picture[inside < 1] = skin // 4  # the inner lips are the same ellipse's, and change nothing
    landmarks = np.stack([places[point] for point in TRAINING_POINTS]).astype(np.float32)
    return picture.clip(0, 255).astype(np.uint8), landmarks


def write_dataset(folder: Path, clips: list[Clip]) -> Path:
    """A packed dataset of made-up heads."""
    folder.mkdir(parents=True, exist_ok=True)
    frames, landmarks = [], []
    for number, clip in enumerate(clips):
        for index in range(clip.frames):
            swing = np.sin(1.3 * index + number)
            picture, places = head(number, 0.5 + 0.08 * swing, 0.5 + 0.03 * np.cos(index), 0.03 + 0.02 * swing)
            frames.append(picture)
            landmarks.append(places)
    (folder / "frames.u8").write_bytes(np.stack(frames).tobytes())
    write_landmarks(
        folder / "landmarks.npz",
        Landmarks(np.array(TRAINING_POINTS), np.stack(landmarks).astype(np.float16), np.ones(len(frames), bool)),
    )
    write_table(folder / "dataset.json", PACKED_FORMAT, ClipTable(SIZE_PX, tuple(clips)))
    return folder


@pytest.fixture(scope="session")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people, two of them with two clips; one held out; two stills."""
    clips = [
        Clip("a1", "ann", "train", 5, licence="CC BY 4.0"),
        Clip("a2", "ann", "train", 3, licence="CC BY 4.0"),
        Clip("b1", "ben", "train", 4),
        Clip("c1", "cyd", "test", 4),
        Clip("s1", "dee", "train", 1),
        Clip("s2", "eli", "train", 1),
    ]
    return write_dataset(tmp_path_factory.mktemp("data") / "heads", clips)


TINY: dict[str, dict[str, object]] = {
    "model": {"base": "tiny", "size_px": SIZE_PX},
    "run": {"device": "cpu", "seed": 3},
    "data": {"stills_share": 0.25},
    "augment": {"similarity_share": 0.5},
    "motion": {"steps": 2, "batch": 2, "decay": "none"},
    "full": {"steps": 2, "batch": 2, "decay": "none"},
    "loss": {
        "perceptual": 0.0,
        "l1": 10.0,
        "warped": 10.0,
        "occlusion": 2.0,
        "guidance": 10.0,
        "guidance_late": 1.0,
        "guidance_steps": 4,
        "guidance_points": [386, 159, 1, 291, 61],
        "mouth": 3.0,
        "eyes": 3.0,
    },
    "log": {"every": 1, "sheet_every": 0, "tensorboard": False},
}


ASKED: dict[str, dict[str, object]] = {
    "model": {"num_keypoints": 6},
    "loss": {
        "gan": 1.0,
        "discriminator_widths": [4, 4, 4, 4],
        "occlusion_by": "errors",
        "generated": 5.0,
        "crops": 5.0,
        "crops_gan": 1.0,
        "crop_px": 64,
        "crop_discriminator_widths": [4, 4, 4, 4],
        "gan_share": 0.3,
        "picture_openings": 5.0,
        "guidance_points": [386, 374, 159, 145, 13, 14],
    },
}
"""For `tiny_config`: every term that asks the decoder and needs no backbone."""


def tiny_config(data: Path, /, **changes: dict[str, object]) -> FitConfig:
    """A configuration for a few steps on a CPU; `changes` are tables that update its own."""
    tables = {name: {**TINY.get(name, {}), **changes.get(name, {})} for name in {*TINY, *changes}}
    tables["data"]["path"] = str(data)
    return FitConfig.from_dict(tables)


HEAD_POSES = ((0.0, 0.0), (0.25, -0.1), (-0.3, 0.15))
"""Turn and nod of the frames of a made-up clip, in radians."""


def shape_in_space(mouth: float = 0.0) -> NDArray[np.float64]:
    """(P, 3) of TRAINING_POINTS in the head's frame: the rigid points of a mean head, the others on a regular grid.

    Args:
        mouth: by how much what lies below the nose is lowered, in face sizes.
    """
    side = int(np.ceil(np.sqrt(len(TRAINING_POINTS))))
    across, down = np.meshgrid(np.linspace(-1.1, 1.1, side), np.linspace(-1.0, 1.5, side))
    shape = np.stack((across, down, 0.8 * (across**2 + 0.5 * down**2) - 0.5), -1).reshape(-1, 3)[: len(TRAINING_POINTS)]
    shape[:, 1] += mouth * (shape[:, 1] > 0.8)
    shape[[TRAINING_POINTS.index(point) for point in RIGID_POINTS]] = RIGID_SHAPE
    return shape


def dotted_points() -> list[int]:
    """Columns of points that lie far from each other, whatever the pose: every third of the grid's rows and columns."""
    side = int(np.ceil(np.sqrt(len(TRAINING_POINTS))))
    rigid = {TRAINING_POINTS.index(point) for point in RIGID_POINTS}
    columns = [row * side + column for row in range(1, side, 3) for column in range(1, side, 3)]
    return [column for column in columns if column < len(TRAINING_POINTS) and column not in rigid]


def dots(places: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A picture with a bright dot at each of the (n, 2) places in [-1, 1]."""
    line = np.linspace(-1, 1, SIZE_PX)
    squared = (line - places[:, :1])[:, None, :] ** 2 + (line - places[:, 1:])[:, :, None] ** 2
    light = np.exp(-squared / (2 * (2.0 * 2 / SIZE_PX) ** 2)).max(0)
    return np.repeat((40 + 200 * light)[..., None], 3, -1).astype(np.uint8)


@pytest.fixture(scope="session")
def heads_in_space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of heads that turn and open their mouths, and two stills; each a grid of dots, with its landmarks in
    space.
    """
    folder = tmp_path_factory.mktemp("data") / "heads_in_space"
    folder.mkdir()
    clips = [Clip("a", "ann", "train", 3), Clip("b", "ben", "train", 3), Clip("s", "dee", "train", 1)]
    clips.append(Clip("t", "eli", "train", 1))
    frames, meshes = [], []
    for clip in clips:
        for turn, nod in HEAD_POSES[: clip.frames]:
            shape = shape_in_space(0.2 * abs(turn))
            turned = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
            nodded = np.array([[1, 0, 0], [0, np.cos(nod), -np.sin(nod)], [0, np.sin(nod), np.cos(nod)]])
            mesh = 0.36 * shape @ (turned @ nodded).T
            frames.append(dots(mesh[dotted_points(), :2]))
            meshes.append(mesh)
    places = np.stack(meshes)
    shares = places * (SIZE_PX - 1) / (2 * SIZE_PX)
    shares[..., :2] += 0.5
    (folder / "frames.u8").write_bytes(np.stack(frames).tobytes())
    points, valid = np.array(TRAINING_POINTS), np.ones(len(frames), bool)
    kept = shares.astype(np.float16)
    write_landmarks(folder / "landmarks.npz", Landmarks(points, kept[..., :2], valid, kept[..., 2]))
    write_table(folder / "dataset.json", PACKED_FORMAT, ClipTable(SIZE_PX, tuple(clips)))
    return folder


def write_video(path: Path, frames: list[NDArray[np.uint8]], rate: float = 25) -> None:
    """(H, W, 3) uint8 RGB frames as H.264, nearly as they are."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate), options={"crf": "12", "threads": "1"})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for rgb in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
