"""Damaged pictures of every kind: `python -m tests.media.damaged_pictures --count 1000 --seed 1`.

Whatever a file holds, reading it gives a picture or one clear sentence: no traceback, nothing of a library's own on
standard error, no endless work.
"""

import argparse
import collections
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image, ImageCms

from mcnet.media.errors import MediaError
from mcnet.media.images import is_picture, read_rgb

_MOST_LETTERS = 500
_SLOWEST_S = 20.0


@dataclass(frozen=True)
class Outcome:
    """What became of a damaged file.

    Attributes:
        kind: of the picture that was damaged.
        said: the sentence, or "" where it could be read all the same.
        fault: what was wrong with the answer, or "".
    """

    kind: str
    said: str
    fault: str


def whole_pictures() -> dict[str, bytes]:
    """Small pictures of every kind that people have, with metadata that damage may meet."""
    pillow_heif.register_heif_opener()
    rng = np.random.default_rng(1)
    rgb = np.repeat(np.repeat(rng.integers(0, 256, (12, 16, 3), np.uint8), 8, axis=0), 8, axis=1)
    picture, other = Image.fromarray(rgb), Image.fromarray(255 - rgb)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker"
    facts = {"exif": exif.tobytes(), "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()}
    deep = Image.fromarray(rng.integers(0, 65536, (96, 128)).astype(np.uint16))

    def several() -> dict[str, Any]:  # copies, for Pillow leaves notes on what it has saved
        return {"save_all": True, "append_images": [other.copy()]}

    made: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "JPEG": (picture, "JPEG", facts),
        "progressive JPEG": (picture, "JPEG", {**facts, "progressive": True}),
        "CMYK JPEG": (picture.convert("CMYK"), "JPEG", {}),
        "grey JPEG": (picture.convert("L"), "JPEG", facts),
        "MPO": (picture, "MPO", several()),
        "PNG": (picture, "PNG", facts),
        "PNG with transparency": (picture.convert("RGBA"), "PNG", {}),
        "PNG with a palette": (picture.quantize(32), "PNG", {"transparency": 3}),
        "deep PNG": (deep, "PNG", {}),
        "animated PNG": (picture, "PNG", several()),
        "WebP": (picture, "WEBP", facts),
        "lossless WebP": (picture.convert("RGBA"), "WEBP", {"lossless": True}),
        "animated WebP": (picture, "WEBP", several()),
        "AVIF": (picture, "AVIF", facts),
        "animated AVIF": (picture, "AVIF", several()),
        "HEIC": (picture, "HEIF", facts),
        "HEIC of several": (picture, "HEIF", several()),
        "TIFF": (picture, "TIFF", {"exif": facts["exif"]}),
        "TIFF in LZW": (picture, "TIFF", {"compression": "tiff_lzw"}),
        "TIFF in JPEG": (picture, "TIFF", {"compression": "jpeg"}),
        "TIFF in deflate": (picture.convert("CMYK"), "TIFF", {"compression": "tiff_adobe_deflate"}),
        "fax TIFF": (picture.convert("1"), "TIFF", {"compression": "group4"}),
        "deep TIFF": (deep, "TIFF", {}),
        "TIFF of several": (picture, "TIFF", several()),
        "GIF": (picture, "GIF", {}),
        "animated GIF": (picture, "GIF", several()),
        "BMP": (picture, "BMP", {}),
        "JPEG 2000": (picture, "JPEG2000", {}),
        "PPM": (picture, "PPM", {}),
    }
    contents = {}
    for name, (image, kind, options) in made.items():
        file = io.BytesIO()
        image.copy().save(file, kind, **options)
        contents[name] = file.getvalue()
    return contents


def damaged(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """So many damaged pictures, kind by kind in turn; the same for the same seed."""
    rng = np.random.default_rng(seed)
    pictures = list(whole_pictures().items())
    for number in range(count):
        kind, content = pictures[number % len(pictures)]
        how = _DAMAGES[int(rng.integers(len(_DAMAGES)))]
        yield kind, how(np.frombuffer(content, np.uint8).copy(), rng).tobytes()


def read_damaged(count: int, seed: int, folder: Path) -> list[Outcome]:
    """Read each, as a file is read that a user names."""
    outcomes = []
    path = folder / "damaged.bin"
    for kind, content in damaged(count, seed):
        path.write_bytes(content)
        began_s = time.monotonic()
        said = fault = ""
        try:
            is_picture(path)
            rgb = read_rgb(path)
            if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or min(rgb.shape[:2]) < 64:
                fault = f"got a picture of {rgb.dtype} {rgb.shape}"
        except MediaError as error:
            said = str(error)
            if "\n" in said or len(said) > _MOST_LETTERS + len(str(path)) or str(path) not in said:
                fault = f"no clear sentence: {said!r}"
        except Exception as error:  # that is what is looked for
            fault = f"{type(error).__name__}: {error}"
        if time.monotonic() - began_s > _SLOWEST_S:
            fault = fault or f"it took {time.monotonic() - began_s:.0f} s"
        outcomes.append(Outcome(kind, said, fault))
    return outcomes


Bytes = NDArray[np.uint8]


def _flipped(content: Bytes, rng: np.random.Generator) -> Bytes:
    places = rng.integers(0, len(content), int(rng.integers(1, 20)))
    content[places] = rng.integers(0, 256, len(places))
    return content


def _flipped_at_the_start(content: Bytes, rng: np.random.Generator) -> Bytes:
    places = rng.integers(0, min(len(content), 200), int(rng.integers(1, 8)))
    content[places] = rng.integers(0, 256, len(places))
    return content


def _cut(content: Bytes, rng: np.random.Generator) -> Bytes:
    return content[: int(rng.integers(0, len(content)))]


def _without_its_start(content: Bytes, rng: np.random.Generator) -> Bytes:
    return content[int(rng.integers(1, 64)) :]


def _blanked(content: Bytes, rng: np.random.Generator) -> Bytes:
    start = int(rng.integers(0, len(content)))
    content[start : start + int(rng.integers(1, 512))] = rng.choice([0, 255])
    return content


def _repeated(content: Bytes, rng: np.random.Generator) -> Bytes:
    start = int(rng.integers(0, len(content)))
    part = content[start : start + int(rng.integers(1, 256))]
    return np.concatenate([content[:start], part, content[start:]])


def _without_a_part(content: Bytes, rng: np.random.Generator) -> Bytes:
    start = int(rng.integers(0, len(content)))
    return np.concatenate([content[:start], content[start + int(rng.integers(1, 256)) :]])


def _start_and_noise(content: Bytes, rng: np.random.Generator) -> Bytes:
    return np.concatenate([content[: int(rng.integers(4, 64))], rng.integers(0, 256, 2000, dtype=np.uint8)])


def _numbers_changed(content: Bytes, rng: np.random.Generator) -> Bytes:
    """Lengths, sizes and offsets: four bytes of a beginning become a large number, or none."""
    place = int(rng.integers(4, min(len(content), 400) - 4))
    content[place : place + 4] = rng.choice([[0, 0, 0, 0], [255, 255, 255, 255], [127, 255, 255, 255], [0, 1, 0, 0]])
    return content


_DAMAGES: tuple[Callable[[Bytes, np.random.Generator], Bytes], ...] = (
    _flipped,
    _flipped_at_the_start,
    _cut,
    _without_its_start,
    _blanked,
    _repeated,
    _without_a_part,
    _start_and_noise,
    _numbers_changed,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = read_damaged(options.count, options.seed, Path(folder))
    for outcome in outcomes:
        if outcome.fault:
            print(f"{outcome.kind}: {outcome.fault}")
    tally = collections.Counter((outcome.kind, bool(outcome.said)) for outcome in outcomes)
    for kind in dict.fromkeys(outcome.kind for outcome in outcomes):
        print(f"{kind:22} {tally[kind, True]:4} told, {tally[kind, False]:4} read all the same")
    faults = sum(bool(outcome.fault) for outcome in outcomes)
    print(f"{len(outcomes)} damaged pictures, {faults} faults")
    return bool(faults)


if __name__ == "__main__":
    raise SystemExit(main())
