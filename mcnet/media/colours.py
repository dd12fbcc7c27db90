"""Any kind of pixels that Pillow reads, as 8-bit RGB in sRGB."""

import functools
import io
import logging
import struct
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from mcnet.media.errors import MediaError
from mcnet.phrases import phrase

logger = logging.getLogger(__name__)

BEHIND_TRANSPARENCY = 128
"""The grey, 0 to 255, that shows through where a picture is transparent."""

_DEEP = ("I;16", "I;16L", "I;16B", "I;16N")
# Where a picture names its colours by numbers (ITU-T H.273) instead of a profile: red, green and blue in XYZ, adapted
# to D50 by Bradford's matrix, as profiles want them.
_PRIMARIES = {
    9: ((0.67348, 0.27905, -0.00194), (0.16567, 0.67533, 0.02998), (0.12505, 0.04562, 0.79685)),  # BT.2020
    12: ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)),  # Display P3
    1: ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)),  # BT.709, as sRGB
}
_BT709, _PQ, _HLG = 1, 16, 18
_CURVE_STEPS = 4096
_SDR_WHITE_NITS = 203.0  # of HDR material, by ITU-R BT.2408
_PEAK_NITS = 1000.0


def as_srgb(image: Image.Image) -> Image.Image:
    """Convert a loaded picture to 8 bits of sRGB.

    Its profile is applied, or the primaries and curve that a HEIC, AVIF or PNG file names by their numbers; without
    either its numbers are taken as they are. What is transparent is blended over mid-grey (128).

    Args:
        image: of any mode; the numbers of its colours are expected where Pillow leaves a HEIC's, in
            `info["nclx_profile"]`.

    Returns:
        Of mode `RGB`.

    Raises:
        MediaError: it has 32 bits per channel, so that nothing says which of its values is white, or Lab colours that
            its profile does not explain.
    """
    image = eight_bit(image)
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    rgb = _converted(_opaque(image), image.info)
    if alpha is None:
        return rgb
    return Image.composite(rgb, Image.new("RGB", rgb.size, (BEHIND_TRANSPARENCY,) * 3), alpha)


def opaque(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture as it is, or one with straight alpha, (H, W, 4), before mid-grey (128)."""
    if picture.shape[2] == 3:
        return picture
    share = picture[:, :, 3].astype(np.float32) / 255
    grey = np.full_like(picture[:, :, :3], BEHIND_TRANSPARENCY)
    return np.asarray(cv2.blendLinear(np.ascontiguousarray(picture[:, :, :3]), grey, share, 1 - share), np.uint8)


def eight_bit(image: Image.Image) -> Image.Image:
    """The same with 8 bits per channel, where it has other depths.

    Raises:
        MediaError: it has 32 bits per channel.
    """
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
        raise MediaError(phrase("got 32 bits per channel, expected 8 or 16; convert it to JPEG or PNG"))
    if image.mode in (*_DEEP, "I"):
        grey = Image.fromarray(np.rint(np.asarray(image).astype(np.float32) / 257).astype(np.uint8))
        grey.info = image.info
        return grey
    return image.convert("L") if image.mode == "1" else image


def _opaque(image: Image.Image) -> Image.Image:
    """Without transparency, palette and chroma, in a mode that a profile may be of."""
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image
    if image.mode in ("RGBa", "La"):  # colours times transparency
        image = image.convert(image.mode.upper())
    return image.convert("L" if image.mode == "LA" else "RGB")


def _converted(image: Image.Image, info: dict[str | tuple[int, int], object]) -> Image.Image:
    profile = _profile_of(image.mode, info)
    if profile is None:
        return image.convert("RGB")
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "L" and opened.profile.xcolor_space.strip() == "RGB":
            image = image.convert("RGB")
        converted = ImageCms.profileToProfile(image, opened, _srgb(), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        logger.info("a picture's colour profile cannot be used (%s): its colours are taken as sRGB", error)
        if image.mode == "LAB":
            raise MediaError(
                phrase("got Lab colours with a profile that cannot be used; convert it to JPEG or PNG")
            ) from error
        return image.convert("RGB")
    assert converted is not None, "only in place is nothing returned"
    return converted


@functools.cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _profile_of(mode: str, info: dict[str | tuple[int, int], object]) -> bytes | None:
    """An ICC profile for the picture's colours, or None where they are sRGB as far as anybody can know."""
    if isinstance(profile := info.get("icc_profile"), bytes) and profile:
        return profile
    if mode == "LAB":
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    if mode != "RGB" or not isinstance(numbers := info.get("nclx_profile"), dict):
        return None
    return _numbered_profile(int(numbers["color_primaries"]), int(numbers["transfer_characteristics"]))


@functools.cache
def _numbered_profile(primaries: int, transfer: int) -> bytes | None:
    """A profile for H.273's numbers; None where they stand for sRGB, or for nothing that is known."""
    curve = {_PQ: _tone_mapped_pq, _HLG: _tone_mapped_hlg}.get(transfer)
    if curve is None and (primaries == _BT709 or primaries not in _PRIMARIES):
        return None
    return _matrix_profile(_PRIMARIES.get(primaries, _PRIMARIES[_BT709]), curve or _srgb_to_linear)


def _matrix_profile(
    primaries: tuple[tuple[float, ...], ...], curve: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> bytes:
    """An ICC profile (version 2.4) of three primaries and one curve.

    Args:
        primaries: XYZ of red, green and blue under D50.
        curve: from values in [0, 1] to linear light in [0, 1].
    """
    values = np.rint(65535 * curve(np.linspace(0, 1, _CURVE_STEPS))).astype(">u2")
    tags = {f"{name}XYZ": b"XYZ \0\0\0\0" + _fixed(*xyz) for name, xyz in zip("rgb", primaries, strict=True)}
    tags |= {f"{name}TRC": b"curv\0\0\0\0" + struct.pack(">I", _CURVE_STEPS) + values.tobytes() for name in "rgb"}
    tags["wtpt"] = b"XYZ \0\0\0\0" + _fixed(0.9642, 1.0, 0.8249)
    table, content = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += struct.pack(">4sII", name.encode(), start + len(content), len(data))
        content += data + bytes(-len(data) % 4)
    header = struct.pack(">I4xI4s4s4s12x4s", start + len(content), 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    header = header.ljust(68, b"\0") + _fixed(0.9642, 1.0, 0.8249)
    return header.ljust(128, b"\0") + table + content


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(65536 * value) for value in values))


def _srgb_to_linear(value: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _tone_mapped_pq(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 2084, then the tone curve."""
    power = value ** (1 / 78.84375)
    nits = 10000 * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)
    return _tone_mapped(nits)


def _tone_mapped_hlg(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """ARIB STD-B67 on a display of 1000 cd/m2 (its gamma of 1.2 taken channel by channel), then the tone curve."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12)
    return _tone_mapped(_PEAK_NITS * scene**1.2)


def _tone_mapped(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Luminance to [0, 1] by Reinhard's extended curve (2002): the peak becomes white, what is dark stays as it is."""
    light, peak = np.minimum(nits, _PEAK_NITS) / _SDR_WHITE_NITS, _PEAK_NITS / _SDR_WHITE_NITS
    return light * (1 + light / peak**2) / (1 + light)
