"""Makes the pictures of docs/how-it-works.md: `python -m tests.how_it_works [FOLDER]`, or `make pictures`.

The bundled model inspects a bundled portrait and the bundled clip, whose licences are in assets/README.md. The picture
of the window is another command's, `python -m tests.app.ui.screenshot --inside`.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from PIL import Image

from mcnet.__main__ import main as mcnet
from mcnet.commands.inspect import PICTURES
from mcnet.media.images import read_rgb

FOLDER = Path("docs/how-it-works")
PORTRAIT, CLIP, FRAME = "woman_1", Path("assets/driving/grid_bbaf2n.mpg"), 37
_QUALITY = 85


def make(folder: Path) -> int:
    """Write every picture, as a JPEG to take a fifth of the room; returns the exit status of `mcnet inspect`."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        files = ["--source", PORTRAIT, "--driving", str(CLIP), "--output", place]
        if status := mcnet(["inspect", *files, "--frame", str(FRAME), "--device", "cpu"]):
            return status
        for name in PICTURES:
            sheet = Image.fromarray(read_rgb(Path(place) / f"{name}.png"))
            sheet.save(folder / f"{name}.jpg", quality=_QUALITY, optimize=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.how_it_works", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    return make(parser.parse_args().folder)


if __name__ == "__main__":
    sys.exit(main())
