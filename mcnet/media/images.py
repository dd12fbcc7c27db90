"""Reads still pictures of all usual kinds, through Pillow, and writes PNG and JPEG."""

import ctypes
import functools
import io
import logging
import math
import mmap
import re
import struct
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import av
import cv2
import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

from mcnet.allocator import give_back_freed_memory
from mcnet.config import MIN_SIDE_PX
from mcnet.files import cause_and_remedy, may_be_file, replacing
from mcnet.media.colours import as_srgb, eight_bit
from mcnet.media.errors import MediaError
from mcnet.media.picture_words import with_words
from mcnet.phrases import listed, phrase

if TYPE_CHECKING:
    from mcnet.disclosure.words import Words

logger = logging.getLogger(__name__)

WRITABLE_SUFFIXES = (".png", ".jpg", ".jpeg")
MOST_PIXELS = 500_000_000
"""A picture of more is refused unread: a few kilobytes may unfold to any size."""
KEPT_PIXELS = 24_000_000
"""A picture of more is scaled down to so many while it is read, which bounds what everything after it needs."""

_READABLE = "JPEG, PNG, WebP, HEIC, AVIF, TIFF, GIF, BMP, JPEG 2000 or PPM"
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "JPEG2000", "PPM")
_MOVING = ("GIF", "PNG", "WEBP", "AVIF")  # of other kinds, further pictures are pages, or small copies
_JPEG_QUALITY = 95
_MOST_SIDE_PX_OF_JPEG, _MOST_SIDE_PX_OF_PNG = 65_500, 1_000_000  # libjpeg's and libpng's
_JPEG_END = b"\xff\xd9"
_KEY = "transparency"
"""What Pillow calls a PNG's transparent colour."""
_ORIENTATION_TAG = 0x0112
_SUBFILE_TAG, _REDUCED = 0x00FE, 1
_DNG_TAG = 0xC612
_LARGE_PIXELS = 4_000_000
_HEADER_BYTES = 2**16
_NUMBERED_COLOURS = {"AVIF": (rb"colrnclx(.{4})", ">HH"), "PNG": (b"\x00\x00\x00\x04cICP(.{2})", ">BB")}
_WHITE_IS_0, _PLANE_BY_PLANE = 0, 2  # of a TIFF's photometric interpretation, and of its planar configuration
_JPEG2000_DEPTH = re.compile(rb"\xff\x4f\xff\x51.{38}(.)", re.DOTALL)
_BOX_START_BYTES = 8
_RESIZABLE = ("L", "LA", "RGB", "RGBA", "CMYK")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_rgb(path: str | Path, *, most_kept: int = KEPT_PIXELS) -> NDArray[np.uint8]:
    """Read a picture the way a viewer shows it.

    Its orientation is applied (EXIF in JPEG, PNG, WebP and TIFF; `irot` and `imir` in HEIC and AVIF), its colours are
    converted to sRGB, 16 bits become 8, and transparent parts are blended over mid-grey (128). Of an animation or of
    several pages the first picture is read.

    Args:
        path: a JPEG, PNG, WebP, HEIC, AVIF, TIFF, GIF, BMP, JPEG 2000 or PPM file; what counts is its content, not its
            name.
        most_kept: a picture of more pixels is scaled down to so many.

    Returns:
        (H, W, 3) uint8 RGB, at least 64 pixels on each side.

    Raises:
        MediaError: the file is missing, cannot be read, is no picture, is damaged or cut short, has more than
            `MOST_PIXELS` pixels, or is too small.
    """
    path = Path(path)
    rgb, is_large = _read(path, most_kept)
    if is_large:
        give_back_freed_memory()
    return rgb


def as_read(rgb: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """A picture that came without a file, as `read_rgb` gives one: at most `KEPT_PIXELS` of it.

    Args:
        rgb: (H, W, 3) uint8 RGB.
        name: what it is called.

    Raises:
        MediaError: it is too small.
    """
    height, width = rgb.shape[:2]
    _require_sides(name, width, height)
    return rgb if height * width <= KEPT_PIXELS else _array(_bounded(Image.fromarray(rgb), KEPT_PIXELS))


def is_picture(path: str | Path) -> bool:
    """Whether `read_rgb` would take a file for a picture: by its content, not its name. It may still be damaged."""
    try:
        with _opened(Path(path)):
            return True
    except MediaError:
        return False


def still_kind(path: Path) -> str | None:
    """Pillow's name of what a file is a picture of, one that does not move; None: it is none, or moves."""
    try:
        with _opened(path) as image:
            moves = image.format in _MOVING and getattr(image, "is_animated", False)
            return None if moves else image.format
    except MediaError:
        return None


def meant_as_picture(path: Path) -> bool:
    """Whether a file is a picture, or is named as one: then it is damaged, and reading it tells so."""
    return may_be_file(path) and (path.suffix.lower() in usual_endings() or is_picture(path))


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder, in natural order (2 before 10), but for hidden files.

    A damaged one is among them, as `meant_as_picture` says: leaving it out would move all that come after it.
    """
    pictures = (entry for entry in folder.iterdir() if not entry.name.startswith(".") and meant_as_picture(entry))
    return sorted(pictures, key=_natural)


@functools.cache
def usual_endings() -> tuple[str, ...]:
    """How pictures that can be read are usually named, as `.jpg`: for file dialogs, which know names only."""
    _get_ready()
    Image.init()
    formats = (*_FORMATS, "HEIF", "AVIF")
    return tuple(sorted(ending for ending, name in Image.EXTENSION.items() if name in formats))


def write_rgb(path: str | Path, rgb: NDArray[np.uint8], words: "Words | None" = None) -> None:
    """Write a picture as PNG or JPEG (quality 95), by the path's suffix, replacing an older one in one step.

    Args:
        path: ends in `.png`, `.jpg` or `.jpeg`; its folder exists.
        rgb: (H, W, 3) uint8 RGB; for PNG also (H, W, 4), with straight alpha.
        words: what the file says of itself in its metadata; None: nothing.

    Raises:
        MediaError: the suffix, or type or shape of the picture, is another; or the place cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in WRITABLE_SUFFIXES:
        raise MediaError(
            phrase(
                "cannot write a picture to {path}: got suffix {suffix}, expected {suffixes}",
                path=path,
                suffix=repr(path.suffix),
                suffixes=listed(WRITABLE_SUFFIXES, "or"),
            )
        )
    if path.is_dir():
        raise MediaError(phrase("cannot write the picture {path}: it is a folder, expected a file name", path=path))
    try:
        with replacing(path) as partial:
            partial.write_bytes(encoded(rgb, suffix, words))
    except OSError as error:
        raise MediaError(
            phrase(
                "cannot write the picture {path}: {cause}",
                path=path,
                cause=cause_and_remedy(error),
            )
        ) from error


def encoded(rgb: NDArray[np.uint8], suffix: str, words: "Words | None" = None) -> bytes:
    """The content of a picture's file.

    Args:
        rgb: (H, W, 3) uint8 RGB; for PNG also (H, W, 4), with straight alpha.
        suffix: one of `WRITABLE_SUFFIXES`.
        words: what it says of itself in its metadata; None: nothing.

    Raises:
        MediaError: the picture is of another type or shape, or too large for such a file.
    """
    rgb = np.asarray(rgb)
    is_png = suffix == ".png"
    if rgb.ndim != 3 or rgb.shape[2] not in ((3, 4) if is_png else (3,)) or rgb.dtype != np.uint8 or not rgb.size:
        shapes = ["(height, width, 3)", *(["(height, width, 4)"] if is_png else [])]
        raise MediaError(
            phrase(
                "cannot make a picture for a {suffix} file: got {type} of shape {shape}, expected uint8 of shape "
                "{shapes}, with one pixel at least",
                suffix=suffix,
                type=rgb.dtype,
                shape=str(rgb.shape),
                shapes=listed(shapes, "or"),
            )
        )
    options = [] if is_png else [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    most_px = _MOST_SIDE_PX_OF_PNG if is_png else _MOST_SIDE_PX_OF_JPEG
    is_made, content = False, np.empty(0, np.uint8)
    if max(rgb.shape[:2]) <= most_px:  # of more OpenCV would complain by itself, too
        is_made, content = cv2.imencode(suffix, rgb[:, :, [2, 1, 0, *range(3, rgb.shape[2])]], options)
    if not is_made:
        raise MediaError(
            phrase(
                "cannot make a picture for a {suffix} file: got {width} x {height}, expected at most {most} pixels per "
                "side; make it smaller",
                suffix=suffix,
                width=rgb.shape[1],
                height=rgb.shape[0],
                most=most_px,
            )
        )
    return content.tobytes() if words is None else with_words(content.tobytes(), suffix, words)


def _read(path: Path, most_kept: int, *, completed: bool = False) -> tuple[NDArray[np.uint8], bool]:
    """The picture, and whether reading it took much memory.

    A JPEG that is cut short is `completed` by its end mark, as viewers do it: what is missing becomes grey.
    """
    with _opened(path, completed=completed) as image:
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise MediaError(
                phrase(
                    "the picture {path} is too large: got {width} x {height}, expected at most {millions} million "
                    "pixels; make it smaller",
                    path=path,
                    width=width,
                    height=height,
                    millions=MOST_PIXELS // 10**6,
                )
            )
        _require_sides(path, width, height)
        if image.format == "TIFF" and (_tag(image, _DNG_TAG) or _tag(image, _SUBFILE_TAG) & _REDUCED):
            raise MediaError(
                phrase(
                    "cannot read the picture {path}: got a camera's raw data, expected {readable}; export it as JPEG",
                    path=path,
                    readable=_READABLE,
                )
            )
        if image.format in _NUMBERED_COLOURS:
            _note_colours(image)
        lacks_tiles = image.format == "HEIF" and "tiling" in image.info and _lacks_data(image)
        try:
            rgb = as_srgb(_bounded(_decoded_by_ffmpeg(image) or image, most_kept))
            turn = _UPRIGHT.get(_tag(image, _ORIENTATION_TAG))  # read last: a TIFF has turned itself by now
            pixels = _array(rgb if turn is None else rgb.transpose(turn))
        except MediaError as error:
            raise MediaError(phrase("cannot read the picture {path}: {error}", path=path, error=error)) from error
        except Exception as error:  # each of Pillow's decoders fails in its own way when a file is damaged
            logger.debug("reading %s", path, exc_info=True)
            if image.format in ("JPEG", "MPO") and "truncated" in str(error) and path.is_file() and not completed:
                answer = _read(path, most_kept, completed=True)
                logger.warning("the picture %s is cut short: what is missing of it is grey", path)
                return answer
            raise MediaError(
                phrase(
                    "cannot read the picture {path}: it is damaged, cut short or of a kind that cannot be decoded "
                    "({said}); open it in a viewer and save it as JPEG, or take another",
                    path=path,
                    said=_said(error),
                )
            ) from error
        if lacks_tiles:  # the one kind that is decoded all the same, and nothing is said of it
            logger.warning("the picture %s is cut short: what is missing of it is green", path)
    return pixels, width * height > _LARGE_PIXELS


def _require_sides(path: str | Path, width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE_PX:
        raise MediaError(
            phrase(
                "the picture {path} is too small: got {width} x {height}, expected at least {least_px} pixels "
                "on each side; use a larger one",
                path=path,
                width=width,
                height=height,
                least_px=MIN_SIDE_PX,
            )
        )


def _array(rgb: Image.Image) -> NDArray[np.uint8]:
    """A picture's own array. A large one lies in pages of its own, which go back to the system along with it."""
    shape = (rgb.height, rgb.width, 3)
    if rgb.width * rgb.height <= _LARGE_PIXELS:
        return np.array(rgb)
    pixels = np.frombuffer(mmap.mmap(-1, math.prod(shape)), np.uint8).reshape(shape)
    pixels[:] = np.asarray(rgb)
    return pixels


def _opened(path: Path, *, completed: bool = False) -> ImageFile.ImageFile:
    """A picture of which the beginning is read; `completed` by a JPEG's end mark."""
    _get_ready()
    held: io.BytesIO | None = None
    try:
        if path.is_char_device():
            raise MediaError(phrase("cannot read the picture {path}: got a device, expected a file", path=path))
        if path.is_file() and not completed:
            with path.open("rb") as file:
                start = file.read(64)
        else:  # a pipe can be read once only
            held = io.BytesIO(path.read_bytes() + (_JPEG_END if completed else b""))
            start = held.getvalue()[:64]
    except FileNotFoundError as error:
        raise MediaError(phrase("no picture at {path}: check the path", path=path)) from error
    except IsADirectoryError as error:
        raise MediaError(
            phrase("cannot read the picture {path}: got a folder, expected a file; name one of its files", path=path)
        ) from error
    except MediaError:
        raise
    except (OSError, ValueError) as error:  # the latter: a NUL in the name
        said = getattr(error, "strerror", None) or error
        raise MediaError(
            phrase("cannot read the picture {path}: {said}; check its permissions", path=path, said=said)
        ) from error
    what = phrase("something else or a damaged file") if start else phrase("an empty file")
    try:
        image = Image.open(path if held is None else held, formats=_formats(start))
    except Exception as error:  # as in `_read`
        logger.debug("opening %s", path, exc_info=True)
        raise MediaError(
            phrase(
                "cannot read the picture {path}: got {what}, expected {readable}",
                path=path,
                what=what,
                readable=_READABLE,
            )
        ) from error
    image.filename = ""  # else Pillow maps it, and a TIFF that is to be turned with its sides swapped
    return image


def _formats(start: bytes) -> tuple[str, ...]:
    """Which of Pillow's readers are to be asked, by a file's first 64 bytes.

    HEIC and AVIF have one container, whose first brand may name neither: the reader of the other must not have it.
    """
    if start[4:8] != b"ftyp":
        return _FORMATS
    (size,) = struct.unpack_from(">I", start)
    return ("AVIF",) if re.search(b"avi[fs]", start[8 : min(size, len(start))]) else ("HEIF",)


@functools.cache
def _get_ready() -> None:
    """Make Pillow know HEIC, and keep it from judging sizes, which is done here, and from talking on standard error."""
    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    Image.MAX_IMAGE_PIXELS = None
    warnings.filterwarnings("ignore", module="PIL")
    # Pillow passes on what libtiff says of a damaged file, and libtiff says it on standard error besides. Its library
    # lies beside Pillow in the packages for Linux; elsewhere it goes on talking.
    for library in Path(Image.__file__).parents[1].glob("pillow.libs/libtiff*"):
        ctypes.CDLL(str(library)).TIFFSetErrorHandler(None)


def _decoded_by_ffmpeg(image: ImageFile.ImageFile) -> Image.Image | None:
    """The pixels, as stored, of a kind with more than 8 bits per colour that Pillow gets wrong; None of any other."""
    keyed = _is_keyed_deep_png(image)
    if not (keyed or _is_deep_jpeg2000(image) or _is_odd_deep_tiff(image)):
        return None
    assert image.fp is not None, "it is not loaded yet"
    image.fp.seek(0)
    with av.open(io.BytesIO(image.fp.read()), "r") as container:  # which would close the file, and its tags are in it
        frame = next(container.decode(video=0))
        kept = "gbrap" if keyed or image.mode in ("RGBA", "LA") else "rgb24"
        decoded = Image.fromarray(frame.to_ndarray(format=kept).astype(np.uint8, copy=False))
    decoded.info = {name: value for name, value in image.info.items() if not (keyed and name == _KEY)}
    return decoded


def _is_keyed_deep_png(image: ImageFile.ImageFile) -> bool:
    """Whether it is one of 16 bits with a colour that is transparent: Pillow looks for that among its 8 bits."""
    return image.format == "PNG" and _KEY in image.info and any("16" in str(tile.args) for tile in image.tile)


def _is_deep_jpeg2000(image: ImageFile.ImageFile) -> bool:
    """Whether it is one in colour: Pillow rounds white up beyond what 8 bits hold, which makes it black."""
    if image.format != "JPEG2000" or image.mode not in ("RGB", "RGBA", "LA"):
        return False
    assert image.fp is not None, "it is not loaded yet"
    place = image.fp.tell()
    image.fp.seek(0)
    depth = _JPEG2000_DEPTH.search(image.fp.read())  # anything may lie before its pixels
    image.fp.seek(place)
    return depth is not None and depth[1][0] & 0x7F >= 8  # one less than there are


def _is_odd_deep_tiff(image: ImageFile.ImageFile) -> bool:
    """Whether it is one of 16 bits plane by plane, of which Pillow makes noise, in grey with white as 0, which it shows
    as a negative, or in grey of 12 bits, which it leaves dark.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    (bits, *_) = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
    if image.mode in ("RGB", "RGBA"):
        return bits == 16 and image.tag_v2.get(TiffImagePlugin.PLANAR_CONFIGURATION) == _PLANE_BY_PLANE
    is_negative = image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_0
    return image.mode.startswith("I;16") and (bits != 16 or is_negative)


def _bounded(image: Image.Image, most_kept: int) -> Image.Image:
    """The pixels, at most so many. Of a large JPEG no more are decoded than twice as many each way."""
    width, height = image.size
    factor = math.sqrt(most_kept / (width * height))
    if factor >= 1:
        image.load()
        return image
    size = max(1, round(width * factor)), max(1, round(height * factor))
    if image.format in ("JPEG", "MPO"):
        image.draft(None, size)
    image.load()
    size = size if (image.width < image.height) == (width < height) else size[::-1]  # a TIFF turns as it is loaded
    whole = eight_bit(image)
    if whole.mode not in _RESIZABLE:
        whole = whole.convert("RGBA" if whole.has_transparency_data else "RGB")
    smaller = whole.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    smaller.info = image.info
    return smaller


def _note_colours(image: ImageFile.ImageFile) -> None:
    """Note the numbers of a picture's colours (primaries and curve) as Pillow does it for a HEIC alone.

    An AVIF has them in a box, a PNG in a chunk; both near the start.
    """
    pattern, numbers = _NUMBERED_COLOURS[str(image.format)]
    assert image.fp is not None, "it is not loaded yet"
    place = image.fp.tell()
    image.fp.seek(0)
    found = re.search(pattern, image.fp.read(_HEADER_BYTES), re.DOTALL)
    image.fp.seek(place)
    if found is not None:
        primaries, transfer = struct.unpack(numbers, found[1])
        image.info["nclx_profile"] = {"color_primaries": primaries, "transfer_characteristics": transfer}


def _lacks_data(image: ImageFile.ImageFile) -> bool:
    """Whether a HEIC's file ends within the box of its pixels. What a phone puts behind all boxes need be none."""
    assert image.fp is not None, "it is not loaded yet"
    place, end = image.fp.tell(), image.fp.seek(0, io.SEEK_END)
    start, size, kind = 0, _BOX_START_BYTES, b""
    while size >= _BOX_START_BYTES and start < end and kind != b"mdat":  # less: the last box, however long; or damage
        image.fp.seek(start)
        size, kind, large = struct.unpack(">I4sQ", image.fp.read(16).ljust(16, b"\0"))
        size = large if size == 1 else size
        start += size
    image.fp.seek(place)
    return kind == b"mdat" and start > end


def _tag(image: Image.Image, tag: int) -> int:
    """A number from a picture's EXIF; 0 where it is missing or damaged, 1 where it is no number."""
    try:
        value = image.getexif().get(tag, 0)
    except Exception:  # damaged in whatever way: the picture itself is not
        logger.debug("reading EXIF", exc_info=True)
        return 0
    return value if isinstance(value, int) else 1


def _said(error: Exception) -> str:
    """What a library says, as a part of a sentence."""
    said = " ".join(str(error).split()).rstrip(".")
    return said or type(error).__name__


def _natural(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
