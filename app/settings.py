"""What the user chose: frozen, swapped by reference, kept as TOML between runs."""

import contextlib
import dataclasses
import logging
import os
import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from app.errors import AppError
from mcnet.files import alone_in, followed, free_name, replacing
from mcnet.inspection import LiveView
from mcnet.phrases import listed, phrase
from mcnet.tables import lacks_by_mistake, salvage, shown

logger = logging.getLogger(__name__)

T = TypeVar("T")

Background = Literal["blur", "own", "colour", "image", "video", "alpha"]
MotionKind = Literal["space", "plane"]
KeypointKind = Literal["measured", "detected"]
Language = Literal["system", "en", "de", "es", "fr", "pt_BR", "ja", "zh_CN"]
VirtualCameraKind = Literal["driver", "pipewire"]


MOTION_PARTS = ("turn", "nod", "tilt", "shift", "nearness")
EXPRESSION_PARTS = ("lids", "gaze", "mouth", "brows")
"""What has a gain of its own in motion in space."""


LONGEST_SLATE_TEXT = 60
# OpenCV has no glyph for most of the rest, and writes from left to right, character by character: what is written the
# other way, or joined, comes out wrong though each of its letters is there.
_ON_THE_SLATE = re.compile(
    "["
    " -~\u00a0-\u00ac\u00ae-\u017f\u01a0\u01a1\u01af\u01b0\u01fa-\u01ff\u0218-\u021b"  # Latin
    "\u1e80-\u1e85\u1e9e\u1ea0-\u1ef9"  # Latin of Wales and Vietnam
    "\u0384-\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03ce\u0400-\u0482\u048a-\u0513"  # Greek, Cyrillic
    "\u2010\u2013-\u2015\u2018-\u201e\u2020-\u2022\u2026\u2030\u2032\u2033\u2039-\u203b"  # punctuation
    "\u20a0-\u20a8\u20aa-\u20b5\u20b8\u20b9\u20bd\u2116\u2122"  # currencies, number, trade mark
    "\u2190-\u2199\u2212\u221e\u2248\u2260\u2264\u2265"  # arrows, mathematics
    "\u25a0\u25a1\u25b2\u25b3\u25bc\u25bd\u25c6\u25c7\u25cb\u25ce\u25cf"  # squares, triangles, circles
    "\u2605\u2606\u2640\u2642\u2660-\u266a\u266d\u266f\u2713"  # stars, cards, notes, a tick
    "\u3000-\u3003\u3005-\u3017\u3041-\u3094\u309b-\u309e\u30a1-\u30f6\u30fb-\u30fe"  # Japanese
    "\u4e00-\u9fa5\uac00-\ud7a3"  # Chinese, Korean
    "\uff01-\uff5e\uff61-\uff9f\uffe0-\uffe6"  # their forms of other widths
    "]"
)
_MOST_NAMED = 8
GENTLE = "gentle"
"""Names the bundled motion as `LiveSettings.idle_motion`."""
RECENT_MODELS = 6
PORTRAIT_SIZES = (0.5, 1.7)
"""The least and the greatest `LiveSettings.portrait_size`."""
FARTHEST_SHIFT = 0.5
"""Of a portrait to either side of its place."""
_ANY_NAME = "surrogatepass"
"""How what is kept is written and read: a file's name need not be text, on any system."""
LEFT = "the file stays as it is"
"""What becomes of a damaged file where the command line only reads it, whose language is English."""
DEFAULT_PORT = 8713
"""Of control from outside."""
LEAST_VIEWS, MOST_VIEWS = 2, 4
"""Of the inside of the network at once."""


_SPARE_FROM = 4
"""Processors. On two, network and face mesh leave nothing of a frame at 30 frames per second."""


def not_on_slate(text: str) -> str:
    """The characters of a text that the slate cannot show, for people; "" where it can show all."""
    found = dict.fromkeys(char for char in unicodedata.normalize("NFC", text) if not _ON_THE_SLATE.match(char))
    visible = [
        char if char.isprintable() and unicodedata.category(char)[0] != "M" else f"U+{ord(char):04X}" for char in found
    ]
    more = ["…"] if len(visible) > _MOST_NAMED else []
    return " ".join(visible[:_MOST_NAMED] + more)


def has_processors_to_spare() -> bool:
    """Whether this process may use so many processors that a picture has time for more than the network."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return usable >= _SPARE_FROM


def _require_within(settings: object, *limits: tuple[str, float, float]) -> None:
    for name, low, high in limits:
        value = getattr(settings, name)
        if not low <= value <= high:
            value = shown(value) if isinstance(value, int) else value
            raise AppError(
                phrase(
                    "setting {name}: got {value}, expected {low} to {high}", name=name, value=value, low=low, high=high
                )
            )


@dataclasses.dataclass(frozen=True)
class LiveSettings:
    """What the stages read once per frame. Every value may change while frames flow."""

    slate: bool = False
    """Show the slate, whatever else happens: the panic key. Takes effect with the next picture."""
    relative: bool = True
    """Move the avatar as the performer moved since the reference pose; otherwise give it the performer's own
    keypoints."""
    motion: MotionKind = "space"
    """Of relative motion. `space`: the avatar looks where the performer looks and takes the change of expression on its
    own shape, if keypoints are measured. `plane`, also where they are not: differences of places in the picture."""
    keypoints: KeypointKind = "measured"
    """Whether the face mesh measures the keypoints at the camera's resolution, for models whose keypoints are points of
    the face, or the model itself detects them."""
    motion_strength: float = 1.0
    """Gain of the head's motion, 0 (still) to 2; for relative motion."""
    expression_strength: float = 1.0
    """Gain of what the face does beyond the head's motion, 0 to 2; for relative motion."""
    turn_strength: float = 1.0
    """Of motion in space, 0 to 2, times `motion_strength`: the head turned to the sides."""
    nod_strength: float = 1.0
    """Likewise: the head raised and lowered."""
    tilt_strength: float = 1.0
    """Likewise: the head tilted towards a shoulder."""
    shift_strength: float = 1.0
    """Likewise: the head moved in the picture."""
    nearness_strength: float = 1.0
    """Likewise: the head moved towards the camera."""
    lids_strength: float = 1.0
    """Of motion in space, 0 to 2, times `expression_strength`: the eyelids."""
    gaze_strength: float = 1.0
    """Likewise: where the eyes look, for models with keypoints on the irises."""
    mouth_strength: float = 1.0
    """Likewise: lips, jaw and chin."""
    brows_strength: float = 1.0
    """Likewise: the brows."""
    retouch: bool = True
    """Of motion in space: whether what the network cannot show of a portrait is drawn into its pictures: skin,
    teeth behind lips that the portrait keeps shut, lids that close."""
    fine_detail: bool = dataclasses.field(default_factory=has_processors_to_spare)
    """Whether pictures have the portrait's own detail, up to 512 px, where the network makes fewer. It takes some
    milliseconds per picture: unless it is asked for, only where the process may use four processors."""
    smoothing: float = 0.3
    """Of the keypoints, 0 (none) to 1 (strong, at the price of delay)."""
    zoom: float = 1.0
    """Of the performer's crop, 0.5 to 2: above 1 the performer's face fills more of it."""
    nudge_x: float = 0.0
    """Shift of the performer's crop to the right, -0.3 to 0.3 of its side."""
    nudge_y: float = 0.0
    """Shift of the performer's crop downwards, likewise."""
    mirror_output: bool = False
    """Flip what the call sees."""
    sharpness: float = 0.5
    """How far the enlarged avatar is sharpened, 0 (not at all) to 1."""
    portrait_size: float = 1.0
    """The side of the avatar's square over the output's shorter side, 0.5 to 1.7. A smaller one stands on the lower
    edge; of a larger one more is cut off below than above."""
    portrait_x: float = 0.0
    """Where the portrait stands, as a share of the output's width to the right of its middle: -0.5 to 0.5."""
    portrait_y: float = 0.0
    """Likewise, of the height and downwards, from where its size puts it."""
    surroundings: bool = dataclasses.field(default_factory=has_processors_to_spare)
    """Whether what the photograph shows around the portrait's square is seen, as far as there is room for it. It takes
    a few milliseconds per picture: from the first start on only where the process may use four processors."""
    cut_out: bool = dataclasses.field(default_factory=has_processors_to_spare)
    """Whether the person is cut out of the portrait, so that the background stays still behind; otherwise the
    portrait's own background moves along, and the background below is seen around the portrait alone. From the first
    start on as the surroundings."""
    background: Background = "blur"
    """The portrait's own, blurred; the portrait's own as it is; a colour; a picture; a video, repeated; or none:
    recordings in WebM and snapshots are then transparent, and everything else shows the colour. Without `cut_out` the
    first two are alike, and there is no transparency."""
    background_blur: float = 0.5
    """Of a cut out person's own background, 0 (none) to 1."""
    background_colour: str = "#1f2430"
    """As #rrggbb."""
    background_image: str = ""
    """A file; covers the whole output."""
    background_video: str = ""
    """Likewise."""
    slate_text: str = ""
    """What the slate says, at most 60 characters that it can show, see `not_on_slate`; empty: what is usual. While the
    avatar gets ready it says that."""
    slate_image: str = ""
    """A picture's file that the slate shows, covering it; empty: none. Not while the avatar gets ready."""
    badge: bool = True
    """Whether the output says that the picture is synthetic."""
    hold_s: float = 0.5
    """The last picture stays this long after the face is lost."""
    ease_s: float = 0.7
    """Then the avatar returns to its own pose within this time."""
    idle_s: float = 6.0
    """Then it rests this long before the slate comes."""
    idle_motion: str = ""
    """What it does meanwhile, where keypoints are measured: nothing, the bundled motion (`gentle`), or a motion
    file's, in a loop."""
    calibration_s: float = 2.0
    """How long the hands-free calibration looks: half as long once a pose scores well, up to three times as long while
    none does."""
    remember_calibration: bool = True
    """Whether the reference comes back for the same performer before the same camera; what was kept is deleted where
    not."""

    def __post_init__(self) -> None:
        _require_within(
            self,
            ("motion_strength", 0, 2),
            ("expression_strength", 0, 2),
            *((f"{part}_strength", 0, 2) for part in MOTION_PARTS + EXPRESSION_PARTS),
            ("smoothing", 0, 1),
            ("zoom", 0.5, 2),
            ("nudge_x", -0.3, 0.3),
            ("nudge_y", -0.3, 0.3),
            ("sharpness", 0, 1),
            ("portrait_size", *PORTRAIT_SIZES),
            ("portrait_x", -FARTHEST_SHIFT, FARTHEST_SHIFT),
            ("portrait_y", -FARTHEST_SHIFT, FARTHEST_SHIFT),
            ("background_blur", 0, 1),
            ("hold_s", 0, 60),
            ("ease_s", 0, 60),
            ("idle_s", 0, 3600),
            ("calibration_s", 0, 60),
        )
        if len(self.slate_text) > LONGEST_SLATE_TEXT:
            got = len(self.slate_text)
            raise AppError(
                phrase(
                    "setting slate_text: got {got} characters, expected at most {longest_slate_text}",
                    got=got,
                    longest_slate_text=LONGEST_SLATE_TEXT,
                )
            )
        if characters := not_on_slate(self.slate_text):
            raise AppError(
                phrase(
                    "setting slate_text: the slate cannot show {characters}; leave that out, or have a picture that "
                    "shows it as slate_image",
                    characters=characters,
                )
            )
        colour = self.background_colour
        if len(colour) != 7 or colour[0] != "#" or any(digit not in "0123456789abcdefABCDEF" for digit in colour[1:]):
            raise AppError(phrase("setting background_colour: got {colour}, expected #rrggbb", colour=shown(colour)))


@dataclasses.dataclass(frozen=True)
class WindowSettings:
    """How the window looks; no stage reads it."""

    mirror_preview: bool = True
    """Show the user a mirror's view of the output; what the call sees stays as it is."""
    overlay_opacity: float = 0.0
    """Of the portrait over the performer's picture, 0 to 1: for lining up the pose."""
    show_statistics: bool = False
    show_landmarks: bool = False
    show_driver: bool = True
    """Show the user's own picture in the preview's corner; turn it off before the window itself is captured or
    shared."""
    theme: Literal["system", "dark", "light"] = "system"
    language: Language = "system"
    """Of the window's texts; takes effect with the next start."""
    width_px: int = 1180
    height_px: int = 720
    show_fine_tune: bool = False
    """Whether the gains of the single parts of motion and expression are shown."""
    checklist_done: bool = False
    """Whether the first launch's checklist was put away."""
    show_inspector: bool = False
    """Whether the dock shows what the network does inside."""
    inspector_views: tuple[LiveView, ...] = ("flow", "warped", "occlusion", "attention")
    """What it shows, two to four of them."""

    def __post_init__(self) -> None:
        _require_within(self, ("overlay_opacity", 0, 1), ("width_px", 200, 16384), ("height_px", 200, 16384))
        views = self.inspector_views
        if not LEAST_VIEWS <= len(set(views)) == len(views) <= MOST_VIEWS:
            raise AppError(
                phrase(
                    "setting inspector_views: got {views}, expected {least_views} to {most_views} different ones",
                    views=listed(views) or phrase("none"),
                    least_views=LEAST_VIEWS,
                    most_views=MOST_VIEWS,
                )
            )


@dataclasses.dataclass(frozen=True)
class ControlSettings:
    """Control from outside the window; all of it is off until it is asked for."""

    on: bool = False
    """Whether programs of the user's may control the app, on 127.0.0.1, with the token."""
    port: int = DEFAULT_PORT
    """Where it listens for them; 0: on any port that is free."""
    origins: tuple[str, ...] = ()
    """Web pages that may do so too, as `http://localhost:3000`: by WebSocket only."""
    slate_key: str = ""
    """A key that shows the slate while another window has the focus, as `Ctrl+Alt+0`; empty: none, since it is taken
    away from every other program."""

    def __post_init__(self) -> None:
        _require_within(self, ("port", 0, 65535))


@dataclasses.dataclass(frozen=True)
class AppSettings:
    """All that is kept between runs."""

    live: LiveSettings = LiveSettings()
    window: WindowSettings = WindowSettings()
    control: ControlSettings = ControlSettings()
    camera: str = ""
    """As `app.pipeline.camera_spec.parse_camera` reads it; empty: the first camera found. A network camera's may
    have a password in it, so that the file is its owner's alone."""
    portrait: str = "woman_1"
    """A bundled portrait's name, or the key of one that the user added."""
    model: str = "starter"
    """A bundled model's name, a file, or a folder that holds one."""
    recent_models: tuple[str, ...] = ()
    """Files and folders of models that were used before, the last one first; at most `RECENT_MODELS`."""
    device: str = "auto"
    precision: str = "auto"
    output_width_px: int = 1280
    output_height_px: int = 720
    output_fps_hz: float = 30.0
    virtual_camera: VirtualCameraKind = "driver"
    """`driver`: v4l2loopback on Linux, OBS's camera elsewhere. `pipewire`: a camera in PipeWire; on Linux only."""
    recordings: str = ""
    """Folder of recordings and snapshots; empty: the system's folder for videos."""
    record_sound: bool = False
    """Whether the microphone is open, and recordings have its sound."""
    microphone: str = ""
    """Which, by the system's own key; empty: the usual one."""
    call_microphone: bool = False
    """Whether call programs are offered that microphone as late as the picture; on Linux only."""
    content_credentials: bool = True
    """Whether recordings and snapshots say, signed, that they were generated (C2PA)."""
    signing_certificates: str = ""
    """File of the user's own certificates for that, PEM, the signer's first; empty: this machine's, which nobody
    vouches for."""
    signing_key: str = ""
    """File of the private key that belongs to them, PEM, without a passphrase."""

    def __post_init__(self) -> None:
        _require_within(self, ("output_width_px", 64, 4096), ("output_height_px", 64, 4096), ("output_fps_hz", 1, 120))
        for name in ("output_width_px", "output_height_px"):
            if getattr(self, name) % 2:
                raise AppError(
                    phrase("setting {name}: got {value}, expected an even number", name=name, value=getattr(self, name))
                )


_SHOWS_MORE = ("surroundings", "cut_out")
"""A call sees more, or another scene, by these: who had the app before there were any goes on as before."""


def load_settings(path: Path, *, mends: bool = True) -> tuple[AppSettings, str | None]:
    """Read the settings: what is good is taken, what is not has its default and is named, and the file is kept aside.

    Args:
        path: of the file.
        mends: whether a damaged file is kept aside, and what is good written in its place; else it stays as it is.

    Returns:
        The settings, and what to tell the user, or None where all went well.

    Raises:
        AppError: the file is there and cannot be read; it is left as it is.
    """
    try:
        values = read_private(path)
    except FileNotFoundError:
        return AppSettings(), None
    except OSError as error:
        raise AppError(
            phrase(
                "cannot read the settings in {path}: {error}; check its permissions, or move it away",
                path=path,
                error=error,
            )
        ) from error
    except ValueError as error:
        kept = set_aside(path, str(error), phrase("settings")) if mends else LEFT
        return AppSettings(), phrase(
            "The settings could not be read ({error}). Defaults are in use; {kept}.", error=error, kept=kept
        )
    settings, complaints = settings_from(values)
    if not complaints:
        return settings, None
    said = listed(complaints, ";")
    kept = _mended(path, settings, said) if mends else LEFT
    return settings, phrase(
        "Not all settings could be used: {said}. All others are in force; {kept}.", said=said, kept=kept
    )


def _mended(path: Path, settings: AppSettings, why: str) -> str:
    kept = set_aside(path, why, phrase("settings"))
    try:
        save_settings(path, settings)  # or the next start would find no settings at all
    except AppError as error:
        kept = listed([kept, str(error)], ";")
    return kept


def kept_origins(path: Path) -> tuple[str, ...]:
    """The web pages in the settings that may control the app; none where they cannot be read, which changes nothing."""
    try:
        values = read_private(path)
    except (OSError, ValueError):
        return ()
    return settings_from(values)[0].control.origins


def kept_language(path: Path) -> Language:
    """The language in the settings, read before all else: what is said of the settings themselves is said in it."""
    try:
        language = read_private(path)["window"]["language"]
    except (OSError, ValueError, KeyError, TypeError):
        return "system"
    return language if language in get_args(Language) else "system"


def set_aside(path: Path, why: str, what: str) -> str:
    """Move a damaged file of settings or the like out of the way, and log why; answers what became of it."""
    path = followed(path)
    aside = free_name(path.with_name(path.name + ".damaged"))
    logger.warning("the %s in %s are damaged (%s)", what, path, why)
    try:
        path.replace(aside)
    except OSError as error:
        return phrase("the old file could not be moved ({error})", error=error)
    return phrase("the old file is kept as {aside}", aside=aside)


def save_settings(path: Path, settings: AppSettings) -> None:
    """Write the settings in one step.

    Raises:
        AppError: the place cannot be written.
    """
    write_private(path, dataclasses.asdict(settings), phrase("settings"))


def save_changes(path: Path, before: AppSettings, now: AppSettings) -> str | None:
    """Write what has changed in this process, in one step: what another window or an editor has changed stays.

    Args:
        path: of the file.
        before: as this process knew the file to be.
        now: as its settings are. They take the place of what cannot be used in the file, and of what a misspelt key may
            stand for, and the file is then kept aside; and of all of it where it is gone, or no TOML any more.

    Returns:
        What to tell the user of what cannot be used, or None where all can.

    Raises:
        AppError: the place cannot be written.
    """
    with alone_beside(path):
        try:
            theirs, complaints = settings_from(read_private(path), instead=now)
        except OSError:
            theirs, complaints = now, []
        except ValueError as error:
            theirs, complaints = now, [str(error)]
        complaint = set_aside_changed(path, complaints, phrase("settings"))
        save_settings(path, _merged(before, now, theirs))
    return complaint


def set_aside_changed(path: Path, complaints: Sequence[str], what: str) -> str | None:
    """Move a file out of the way that somebody else has changed, if anything in it cannot be used.

    Returns:
        What to tell the user, or None where there are no complaints.
    """
    if not complaints:
        return None
    said = listed(complaints, ";")
    return phrase(
        "{path} was changed, and not all of it can be used: {said}. In place of that stays what this window has; "
        "{kept}.",
        path=path,
        said=said,
        kept=set_aside(path, said, what),
    )


@contextlib.contextmanager
def alone_beside(path: Path) -> Iterator[None]:
    """Keep other windows from reading and writing what lies beside a file, while the block runs; where that can be."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # writing there will say what is wrong with the folder
            stack.enter_context(alone_in(followed(path).parent))
        yield


def _merged(before: T, now: T, theirs: T) -> T:
    """Field by field: what has changed, or else theirs."""
    if not dataclasses.is_dataclass(now) or isinstance(now, type):
        return theirs if now == before else now
    names = [field.name for field in dataclasses.fields(now)]
    merged = {name: _merged(*(getattr(one, name) for one in (before, now, theirs))) for name in names}
    return dataclasses.replace(now, **merged)


def write_private(path: Path, values: Mapping[str, Any], what: str) -> None:
    """Write nested plain values as TOML in one step, into a file that is its owner's alone. A link to it stays one.

    Raises:
        AppError: the place cannot be written; `what` says in the message what it was.
    """
    import tomli_w

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not lasting: the window waits for it, and a disk may take seconds. What a power cut damages is told and mended
        # at the start.
        with replacing(path, lasting=False) as partial:
            partial.touch(mode=0o600)  # a network camera's address may have a password in it
            partial.write_text(tomli_w.dumps(values), encoding="utf-8", errors=_ANY_NAME)
    except OSError as error:
        raise AppError(
            phrase(
                "cannot keep the {what} in {path}: {error}; check the folder's permissions",
                what=what,
                path=path,
                error=error,
            )
        ) from error


def read_private(path: Path) -> dict[str, Any]:
    """Read what `write_private` has written, or an editor since, which may put a byte order mark before it.

    Raises:
        OSError: it is not there, or cannot be read.
        ValueError: it is no TOML, or none that anybody would write.
    """
    text = path.read_text(encoding="utf-8-sig", errors=_ANY_NAME)
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("tables or lists are nested too deeply") from error


def settings_from(values: Mapping[str, Any], *, instead: AppSettings | None = None) -> tuple[AppSettings, list[str]]:
    """Build settings from plain nested values, as a file has them; it may be of before there were some of them.

    Returns:
        The settings, with defaults for what cannot be, or what `instead` has of it; and a complaint about each such
        key or value, which names it.
    """
    live = values.get("live", {})
    misspelt = instead is not None and (
        lacks_by_mistake(LiveSettings, live)
        if "live" in values and isinstance(live, Mapping)
        else lacks_by_mistake(AppSettings, values)
    )
    if isinstance(live, Mapping) and not misspelt:
        values = {**values, "live": {**dict.fromkeys(_SHOWS_MORE, False), **live}}
    return salvage(AppSettings, values, what=phrase("setting"), instead=instead)
