"""Encoded portraits and their mattes on disk, so that a portrait that was used before loads within one frame."""

import contextlib
import hashlib
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.pipeline.animation.kept_arrays import read_arrays, write_arrays
from mcnet.arrays import Array, ConditionedMemory, Keypoints, SourceCache
from mcnet.config import MOTION_SIZE_PX, McnetConfig
from mcnet.media.matte import MATTE_VERSION, Matte
from mcnet.media.surroundings import NO_MARGINS, Margins

logger = logging.getLogger(__name__)

_KEPT_FILES = 40
_SOURCES, _MATTES = ".safetensors", ".matte"


class SourceStore:
    """A folder of source caches, keyed by picture, measured places, weights and precision, and of mattes, by picture.

    What cannot be read is computed anew.

    Args:
        folder: made when the first one is kept; at most 40 files of each stay, the last used ones.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(
        self,
        square: NDArray[np.uint8],
        fingerprint: str,
        config: McnetConfig,
        places: NDArray[np.float32] | None = None,
    ) -> SourceCache[Array] | None:
        """The cache of that very picture under that very model; None where there is none.

        Args:
            square: (S, S, 3) uint8.
            fingerprint: of the engine.
            config: of its model, whose shapes the cache is to have.
            places: (K, 2), where the keypoints were measured; None where the model detects them.
        """
        path = self._path(square, fingerprint, places)
        try:
            cache = _unpack(read_arrays(path)[0], fingerprint)._replace(measured=places is not None)
            _require_shapes(cache, config)
            path.touch()
            return cache
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError) as error:
            logger.info("the cached portrait %s cannot be read (%s); it is made anew", path, error)
            return None

    def save(
        self, square: NDArray[np.uint8], cache: SourceCache[Array], places: NDArray[np.float32] | None = None
    ) -> None:
        """Keep a cache; a full or forbidden disk is no reason to stop."""
        self._keep(self._path(square, cache.fingerprint, places), _pack(cache), "encoded portrait")

    def _keep(self, path: Path, tensors: dict[str, Array], what: str) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_arrays(path, tensors)
            self._tidy(path.suffix)
        except OSError as error:
            logger.warning("the %s could not be kept in %s: %s", what, self._folder, error)

    def load_matte(self, picture: NDArray[np.uint8], margins: Margins = NO_MARGINS) -> Matte | None:
        """The matte that was made of that very picture, with those margins; None where there is none."""
        path = self._matte_path(picture, margins)
        try:
            tensors, _ = read_arrays(path)
            matte = Matte(tensors["alpha"], tensors["plate"], tensors["padded"], margins)
            if not matte.alpha.shape == matte.plate.shape[:2] == picture.shape[:2]:
                raise ValueError(f"got {matte.alpha.shape} of a picture of {picture.shape[:2]}")
            if matte.shows_nobody:
                raise ValueError("it shows nobody")
            path.touch()
            return matte
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError) as error:
            logger.info("the matte %s cannot be used (%s); it is made anew", path, error)
            return None

    def save_matte(self, picture: NDArray[np.uint8], matte: Matte) -> None:
        """Keep a matte; a full or forbidden disk is no reason to stop."""
        tensors: dict[str, Array] = {"alpha": matte.alpha, "plate": matte.plate, "padded": matte.padded}
        self._keep(self._matte_path(picture, matte.margins), tensors, "matte")

    def _matte_path(self, picture: NDArray[np.uint8], margins: Margins) -> Path:
        content = f"matte {MATTE_VERSION} {picture.shape} {tuple(margins)}".encode() + picture.tobytes()
        return self._folder / f"{hashlib.sha256(content).hexdigest()[:32]}{_MATTES}"

    def _path(self, square: NDArray[np.uint8], fingerprint: str, places: NDArray[np.float32] | None) -> Path:
        measured = b"" if places is None else places.tobytes()
        content = fingerprint.encode() + str(square.shape).encode() + square.tobytes() + measured
        digest = hashlib.sha256(content).hexdigest()
        return self._folder / f"{digest[:32]}{_SOURCES}"

    def _tidy(self, suffix: str) -> None:
        files = sorted(self._folder.glob(f"*{suffix}"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in files[_KEPT_FILES:]:
            with contextlib.suppress(OSError):
                path.unlink()


def _pack(cache: SourceCache[Array]) -> dict[str, Array]:
    tensors = {
        "picture": cache.picture,
        "small": cache.small,
        "value": cache.keypoints.value,
        "jacobian": cache.keypoints.jacobian,
        "heatmaps": cache.heatmaps,
        **{f"feature.{level}": feature for level, feature in enumerate(cache.features)},
    }
    if cache.memory is not None:
        tensors |= {"memory": cache.memory.memory, "responses": cache.memory.responses}
    return tensors


def _unpack(tensors: dict[str, Array], fingerprint: str) -> SourceCache[Array]:
    levels = sum(name.startswith("feature.") for name in tensors)
    memory = ConditionedMemory(tensors["memory"], tensors["responses"]) if "memory" in tensors else None
    return SourceCache(
        picture=tensors["picture"],
        small=tensors["small"],
        keypoints=Keypoints(tensors["value"], tensors["jacobian"]),
        heatmaps=tensors["heatmaps"],
        features=tuple(tensors[f"feature.{level}"] for level in range(levels)),
        memory=memory,
        fingerprint=fingerprint,
    )


def _require_shapes(cache: SourceCache[Array], config: McnetConfig) -> None:
    """See that a cache has a model's shapes: one of another layout is found out here, and not by a frame.

    Raises:
        ValueError: it has others.
    """
    points, small_px = config.num_keypoints, (MOTION_SIZE_PX, MOTION_SIZE_PX)
    got = [one.shape for one in (cache.picture, cache.small, *cache.keypoints, cache.heatmaps)]
    expected = [
        (1, 3, config.size_px, config.size_px),
        (1, 3, *small_px),
        (1, points, 2),
        (1, points, 2, 2),
        (1, points, *small_px),
    ]
    levels = [(len(one), *one.shape[2:]) for one in cache.features]
    expected_levels = [(1, side, side) for side in config.level_sizes_px]
    if got != expected or levels != expected_levels:
        raise ValueError(f"got shapes {got} and {levels}, expected {expected} and {expected_levels}")
