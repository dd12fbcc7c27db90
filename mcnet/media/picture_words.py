"""What a picture's file says of itself, for whoever opens its properties: words, and IPTC's term for how it was made.

PNG has a place for words (`iTXt`), JPEG and GIF one for comments; IPTC's term goes into an XMP packet, which all three
carry (Adobe, "XMP Specification Part 3"), and is what photo libraries and search engines look at. Only such blocks
are added: the picture itself stays as it was encoded.
"""

import struct
import zlib
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

if TYPE_CHECKING:
    from mcnet.disclosure.words import Words


_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" Iptc4xmpExt:DigitalSourceType={source_type}>
   <dc:description><rdf:Alt><rdf:li xml:lang="x-default">{text}</rdf:li></rdf:Alt></dc:description>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""
_PNG_HEADER_BYTES = 8 + 25  # signature and IHDR
_GIF_HEADER_BYTES = 6 + 7
_GIF_LOOP = b"!\xff\x0bNETSCAPE2.0"
_GIF_LOOP_BYTES = 19
_GIF_XMP_END = bytes([1, *range(255, -1, -1), 0])
"""Leads whoever reads the packet as a chain of blocks to its end."""


def with_words(content: bytes, suffix: str, words: "Words") -> bytes:
    """A picture's file that says of itself what it is.

    Args:
        content: of a PNG, JPEG or GIF without such words; of a GIF its first 1024 bytes do, and give the new file's.
        suffix: `.png`, `.jpg`, `.jpeg` or `.gif`.
        words: what it says.
    """
    packet = _PACKET.format(source_type=quoteattr(words.source_type), text=escape(words.text)).encode()
    text = words.text.encode()
    if suffix == ".png":
        place, added = _PNG_HEADER_BYTES, _png_text("XML:com.adobe.xmp", packet) + _png_text("Description", text)
    elif suffix == ".gif":
        place, added = _gif_place(content), _gif_xmp(packet) + _gif_comment(text)
    else:
        place, added = _jpeg_place(content), _jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet)
        added += _jpeg_segment(0xFE, text)
    return content[:place] + added + content[place:]


def _png_text(keyword: str, text: bytes) -> bytes:
    body = b"iTXt" + keyword.encode() + b"\0\0\0\0\0" + text  # not compressed, no language
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _jpeg_place(content: bytes) -> int:
    """After the start, and JFIF's header where there is one, which comes first."""
    return 4 + int.from_bytes(content[4:6]) if content[2:4] == b"\xff\xe0" else 2


def _jpeg_segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def _gif_place(content: bytes) -> int:
    """After the header and the colours, and after how often it is repeated, which old browsers expect right there."""
    flags = content[10]
    place = _GIF_HEADER_BYTES + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    return place + (_GIF_LOOP_BYTES if content.startswith(_GIF_LOOP, place) else 0)


def _gif_xmp(packet: bytes) -> bytes:
    return b"!\xff\x0bXMP DataXMP" + packet + _GIF_XMP_END


def _gif_comment(text: bytes) -> bytes:
    blocks = [text[start : start + 255] for start in range(0, len(text), 255)]
    return b"!\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"
