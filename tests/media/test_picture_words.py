"""What pictures say of themselves: read back by Pillow, which has no part in the writing."""

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from mcnet.disclosure.manifest import COMPOSITE, GENERATED
from mcnet.disclosure.words import Words, words_of_animation, words_of_snapshot
from mcnet.media.images import encoded, read_rgb, write_rgb
from mcnet.media.video_writer import VideoWriter

WORDS = words_of_animation(beside=True, behind=True)
TERM = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"


def picture(channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 255, (70, 90, channels), np.uint8)


def said_by(path: Path) -> Words:
    """The text of a file's own place for it, which is the XMP packet's too, and the term of the latter."""
    with Image.open(path) as image:
        found = dict(image.info)
    # Pillow reads no XMP of GIFs: there it is found by its marks, which are made for that.
    packet = found.get("xmp") or found.get("XML:com.adobe.xmp", "").encode() or _scanned(path.read_bytes())
    text = found["Description"] if path.suffix == ".png" else found["comment"].decode()
    root = ElementTree.fromstring(packet.partition(b"?>\n")[2].partition(b"\n<?xpacket end")[0])
    (described,) = [one.attrib[TERM] for one in root.iter() if TERM in one.attrib]
    assert [one.text for one in root.iter() if one.tag.endswith("}li")] == [text]
    return Words(text, described)


def _scanned(content: bytes) -> bytes:
    found = re.findall(rb"<\?xpacket begin=.*?<\?xpacket end", content, re.DOTALL)
    assert len(found) == 1
    return bytes(found[0])


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.jpeg"])
def test_a_picture_says_what_it_is_and_stays_what_it_was(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write_rgb(path, picture(), WORDS)
    assert said_by(path) == WORDS
    plain = tmp_path / f"plain{path.suffix}"
    write_rgb(plain, picture())
    np.testing.assert_array_equal(read_rgb(path), read_rgb(plain))
    with Image.open(plain) as image:
        assert not {"xmp", "comment", "Description", "XML:com.adobe.xmp"} & set(image.info)


def test_signs_that_mean_something_in_xml_are_kept(tmp_path: Path) -> None:
    words = Words('a "picture" & <nothing> of Jürgen\'s', GENERATED)
    write_rgb(tmp_path / "a.png", picture(4), words)
    assert said_by(tmp_path / "a.png") == words
    with Image.open(io.BytesIO(encoded(picture(4), ".png"))) as image:
        assert image.mode == "RGBA"


def _pictures_of(path: Path) -> list[NDArray[np.uint8]]:
    with Image.open(path) as image:
        assert image.info["loop"] == 0
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]


@pytest.mark.parametrize("words", [WORDS, Words("short", GENERATED), Words("255" * 85, GENERATED)])
def test_a_gif_says_it_too(words: Words, tmp_path: Path) -> None:
    for name, given in (("a.gif", words), ("plain.gif", None)):
        with VideoWriter(tmp_path / name, 25, (96, 64), words=given) as writer:
            for level in range(3):
                writer.write(np.full((64, 96, 3), 80 * level, np.uint8))
    assert said_by(tmp_path / "a.gif") == words
    shown, plain = (_pictures_of(tmp_path / name) for name in ("a.gif", "plain.gif"))
    assert len(shown) == 3
    np.testing.assert_array_equal(np.stack(shown), np.stack(plain))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gif", "plain.gif"]


def test_a_folders_pictures_say_it_each(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "frames", 25, (96, 64), words=WORDS) as writer:
        for _ in range(2):
            writer.write(np.zeros((64, 96, 3), np.uint8))
    assert [said_by(path) for path in sorted((tmp_path / "frames").iterdir())] == [WORDS, WORDS]


def test_the_term_is_that_of_what_is_shown() -> None:
    assert words_of_animation(beside=False, behind=False).source_type == GENERATED
    for beside, behind in ((True, False), (False, True)):
        words = words_of_animation(beside=beside, behind=behind)
        assert words.source_type == COMPOSITE
        assert COMPOSITE in words.text
        assert ("stands behind it" in words.text) == behind
    for composite, source_type in ((True, COMPOSITE), (False, GENERATED)):
        words = words_of_snapshot(composite=composite)
        assert words.source_type == source_type
        assert ("stands behind it" in words.text) == composite
