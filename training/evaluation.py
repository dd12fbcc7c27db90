"""Evaluates a model on clips that it has not learned from.

Self-reenactment: a clip's first frame is the source, frames of the same clip drive it with absolute keypoints, and what
comes out is compared with the driving frame itself. Cross-identity: somebody else drives, relative to their first frame
and with adapted scale, so that only identity, expression and the head's movement can be compared. Predictions come out
of the engine, as people see them; beside them stand two that cost nothing: the source itself, and the source warped by
the model's motion without what the decoder adds.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mcnet.backends import TorchBackend
from mcnet.engine import Engine, EngineOptions, Precision, Runtime
from mcnet.generator import Mcnet, SourceCache
from mcnet.geometry import Keypoints, adapted_scale, relative_keypoints
from mcnet.media.face_mesh import PlainMesh
from mcnet.media.faces import FaceFinder
from training.data import CLIPS_FORMAT, Clip, DataError, decode, open_dataset, read_table
from training.evaluate import EvaluateError
from training.judges import Inception, Judges, open_judges
from training.metrics import REFERENCE_SIDE_PX, Moments, Rgb, frechet_distance
from training.scores import METHODS, Evaluation, Jitter, Pair, PairResult, Seen, Still, score_pair, summarise, who

JITTER_CLIPS = 4
JITTER_FRAMES = 12
NOISE_LEVELS = 2.0
"""Standard deviation of the still driver's sensor noise, of 255 grey levels: a webcam's in good light."""
SHIFT_PX = 0.25
"""How far the still driver is shifted at most along x and y."""


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """What to evaluate, and how much of it."""

    split: str = "test"
    """Clips of this split; nobody in it may be in the training data."""
    frames_per_clip: int | None = 5
    """Driving frames of each clip, evenly from after the first to the last; None: every frame, the first included."""
    max_clips: int | None = None
    """At most so many clips, different people first; None: all."""
    cross_pairs: int | None = None
    """Pairs of different people; None: as many as clips; 0: none."""
    seed: int = 0
    """Of the cross-identity pairs and of the still driver's noise."""
    device: str = "auto"
    precision: Precision = "auto"
    paper_landmarks: bool = False
    """Whether to measure AKD by face-alignment too."""


class ClipStore:
    """Frames of a packed dataset or of a folder of clips, of which only the clips in use are decoded.

    Args:
        folder: either.

    Raises:
        DataError: it is neither, or is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._packed = open_dataset(folder) if (folder / "dataset.json").is_file() else None
        if self._packed is None and not (folder / "clips.json").is_file():
            raise DataError(f"{folder} is no dataset: got neither dataset.json nor clips.json, expected one of them")
        table = self._packed or read_table(folder / "clips.json", CLIPS_FORMAT)
        self.size_px, self.clips = table.size_px, table.clips
        self.starts = np.cumsum([0, *(clip.frames for clip in table.clips[:-1])])

    def read(self, clip: int, frames: Sequence[int]) -> dict[int, Rgb]:
        """Some frames of a clip, by number.

        Raises:
            DataError: it cannot be decoded, or is not what the table says.
        """
        if self._packed is not None:
            return {frame: np.array(self._packed.frames[self.starts[clip] + frame]) for frame in sorted(set(frames))}
        path, wanted = self.folder / self.clips[clip].file, set(frames)
        found: dict[int, Rgb] = {}
        for number, frame in enumerate(decode(path)):
            if frame.shape != (self.size_px, self.size_px, 3):
                height, width, _ = frame.shape
                raise DataError(f"{path}: got frames of {width}x{height}, expected {self.size_px}x{self.size_px}")
            if number in wanted:
                found[number] = frame
            if len(found) == len(wanted):
                return found
        raise DataError(
            f"{path}: got no frame {max(wanted)}, expected {self.clips[clip].frames} frames as the table says; it may "
            "be truncated"
        )


def make_engine(model: Mcnet, options: EvaluateOptions) -> Engine:
    """On torch from the first frame to the last, or with int8 on OpenVINO, which alone knows it.

    Raises:
        EngineError: the device or the precision cannot be had.
    """
    backend: Runtime = "openvino" if options.precision == "int8" else "torch"
    return Engine(model, EngineOptions(device=options.device, precision=options.precision, backend=backend))


class Animator:
    """Makes the pictures of a pair: by the engine, by the warp alone, and by copying."""

    def __init__(self, model: Mcnet, engine: Engine) -> None:
        self.engine = engine
        self.model = model.to(engine.choice.device)
        self._source: Rgb | None = None
        self._reference: Rgb | None = None
        self._cache: SourceCache | None = None
        self._calibrated: Keypoints | None = None

    def pictures(self, source: Rgb, reference: Rgb | None, driver: Rgb) -> tuple[dict[str, Rgb], float]:
        """The three methods' pictures, and the milliseconds that the engine took for its own.

        Args:
            source: who is animated; kept from call to call.
            reference: the driver's reference pose for relative motion; None: absolute keypoints.
            driver: the driving frame.
        """
        if source is not self._source:
            self.engine.set_source(source)
            self._cache = self.encode(source)
            self._source = source
        if reference is not None and reference is not self._reference:
            self.engine.calibrate(reference)
            self._calibrated = self.detect(reference)
            self._reference = reference
        started = time.perf_counter()
        prediction = self.engine.animate(driver, relative=reference is not None)
        elapsed_ms = 1000 * (time.perf_counter() - started)
        return {"model": prediction, "warp": self._warp(driver, reference is not None), "copy": source}, elapsed_ms

    @torch.inference_mode()
    def encode(self, rgb: Rgb) -> SourceCache:
        """The plain model's cache of a source."""
        return self.model.encode_source(self._picture(rgb))

    @torch.inference_mode()
    def detect(self, rgb: Rgb) -> Keypoints:
        """The plain model's keypoints."""
        keypoints: Keypoints = self.model.keypoint_detector(self._picture(rgb))
        return keypoints

    @torch.inference_mode()
    def motion(self, driver: Rgb) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(K, 2) keypoints of a driver, and the last source's (h, w, 2) deformation to them."""
        assert self._cache is not None
        keypoints = self.detect(driver)
        deformation = self.model.generator.motion(self._cache, keypoints).deformation
        return keypoints.value[0].cpu().numpy(), deformation[0].cpu().numpy()

    @torch.inference_mode()
    def _warp(self, driver: Rgb, relative: bool) -> Rgb:
        assert self._cache is not None
        keypoints = self.detect(driver)
        if relative:
            assert self._calibrated is not None
            scale = adapted_scale(self._cache.keypoints, self._calibrated)
            keypoints = relative_keypoints(self._cache.keypoints, keypoints, self._calibrated, scale)
        generator = self.model.generator
        warped = generator.warp(self._cache, generator.motion(self._cache, keypoints)).picture[0]
        rgb: Rgb = warped.permute(1, 2, 0).mul(255).round().clamp(0, 255).byte().cpu().numpy()
        return rgb

    def _picture(self, rgb: Rgb) -> torch.Tensor:
        return TorchBackend.to_picture(torch.from_numpy(np.ascontiguousarray(rgb))[None].to(self.engine.choice.device))


def evaluate(model: Mcnet, data: Path, options: EvaluateOptions | None = None) -> Evaluation:
    """Evaluate.

    Args:
        model: in evaluation mode.
        data: a packed dataset, or a folder of clips; its stored landmarks are not used.
        options: what and how much.

    Raises:
        DataError: the data cannot be read, or none of its clips.
        EvaluateError: it has no clips in the split, or pictures of another size than the model's.
        EngineError: the device or the precision is not to be had, or the model gives NaN.
    """
    options = options or EvaluateOptions()
    store = ClipStore(data)
    if store.size_px != model.config.size_px:
        raise EvaluateError(
            f"{data} has pictures of {store.size_px} px, the model makes {model.config.size_px} px: expected the same "
            "(mcnet-train prepare sets the size)"
        )
    chosen = choose_clips(store.clips, options.split, options.max_clips)
    if not chosen:
        splits = ", ".join(sorted({clip.split for clip in store.clips}))
        raise EvaluateError(
            f"{data} has no clip of two frames or more in split {options.split!r}; its splits: {splits}"
        )
    self_plan = [self_pairs(clip, store.clips[clip].frames, options.frames_per_clip) for clip in chosen]
    cross_plan = plan_cross_pairs(store.clips, chosen, options)
    engine = make_engine(model, options)
    judges = open_judges(engine.choice.device, sum(map(len, self_plan)), paper_landmarks=options.paper_landmarks)
    notes = list(judges.notes)
    if not cross_plan and options.cross_pairs != 0:
        notes.append(f"Cross-identity is left out: split {options.split!r} shows one person only")
    animator = Animator(model, engine)
    # The plain mesh judges: it measured all earlier figures, and it labelled no training data since the attention mesh.
    with FaceFinder(mesh=PlainMesh()) as finder:
        observer = _Observer(finder, judges)
        of_self, features = _run(store, self_plan, animator, observer, notes, "self-reenactment")
        of_cross, _ = _run(store, cross_plan, animator, observer, notes, "cross-identity")
    if not of_self:
        raise DataError(f"none of the {len(chosen)} clips of {data} can be used; the first: {notes[-1]}")
    times_ms = [result.engine_ms for result in (*of_self, *of_cross)]
    readable = sorted({result.pair.driver.clip for result in of_self}, key=chosen.index)
    self_figures = {method: summarise(of_self, method) for method in METHODS}
    for method, moments in features.items():
        if method in METHODS:
            self_figures[method]["fid"] = frechet_distance(moments, features["driver"])
    return Evaluation(
        clips=store.clips,
        self_pairs=tuple(of_self),
        cross_pairs=tuple(of_cross),
        self_figures=self_figures,
        cross_figures={method: summarise(of_cross, method) for method in METHODS} if of_cross else {},
        jitter=measure_jitter(store, readable[:JITTER_CLIPS], animator, options.seed),
        engine_ms=(float(np.median(times_ms)), float(np.percentile(times_ms, 95))),
        device=engine.choice.reason,
        size_px=store.size_px,
        notes=tuple(notes),
    )


def choose_clips(clips: Sequence[Clip], split: str, max_clips: int | None) -> list[int]:
    """The split's clips of two frames or more by number: everybody's first clip, then everybody's second, and so on."""
    seen: dict[str, int] = {}
    ranked: list[tuple[int, int]] = []
    for number, clip in enumerate(clips):
        if clip.split == split and clip.frames > 1:
            seen[who(clip)] = seen.get(who(clip), 0) + 1
            ranked.append((seen[who(clip)], number))
    return [number for _, number in sorted(ranked)][:max_clips]


def driving_frames(frames: int, count: int | None) -> list[int]:
    """Which frames of a clip drive: `count` of them, evenly, the last one included and the first one not; or all."""
    if count is None:
        return list(range(frames))
    return sorted({round(float(frame)) for frame in np.linspace(0, frames - 1, count + 1)[1:]} - {0})


def self_pairs(clip: int, frames: int, count: int | None) -> list[Pair]:
    """A clip's pairs for self-reenactment."""
    first = Still(clip, 0)
    return [Pair(first, first, Still(clip, frame)) for frame in driving_frames(frames, count)]


def plan_cross_pairs(clips: Sequence[Clip], drivers: Sequence[int], options: EvaluateOptions) -> list[list[Pair]]:
    """Pairs of different people, drawn by the seed: clips drive in turn, and a person's clip or still is the source.

    Args:
        clips: all of the dataset.
        drivers: clips that drive.
        options: the split, how many, and the seed.

    Returns:
        The pairs of each source and driving clip; empty if there are no two people.
    """
    people: dict[str, list[int]] = {}
    for number, clip in enumerate(clips):
        if clip.split == options.split and (clip.frames == 1 or number in drivers):
            people.setdefault(who(clip), []).append(number)
    count = len(drivers) if options.cross_pairs is None else options.cross_pairs
    if len(people) < 2:
        return []
    rng = np.random.default_rng(options.seed)
    orders = {
        driver: rng.permutation([person for person in sorted(people) if person != who(clips[driver])])
        for driver in drivers
    }
    plan: list[list[Pair]] = []
    for turn in range(count):
        driver = drivers[turn % len(drivers)]
        others = orders[driver]
        source = Still(int(rng.choice(people[str(others[turn // len(drivers) % len(others)])])), 0)
        wanted = driving_frames(clips[driver].frames, options.frames_per_clip)
        plan.append([Pair(source, Still(driver, 0), Still(driver, frame)) for frame in wanted])
    return plan


class _Observer:
    """Finds in a picture what the figures need."""

    def __init__(self, finder: FaceFinder, judges: Judges) -> None:
        self._finder = finder
        self.judges = judges

    def see(self, rgb: Rgb) -> Seen:
        faces = self._finder.find(rgb)
        mesh = faces[0].landmarks_px if faces else None
        judges = self.judges
        embedding = judges.identity.embed(rgb, mesh) if judges.identity and mesh is not None else None
        return Seen(rgb, mesh, embedding, judges.paper.find(rgb) if judges.paper else None)


def _run(
    store: ClipStore,
    plan: Sequence[Sequence[Pair]],
    animator: Animator,
    observer: _Observer,
    notes: list[str],
    what: str,
) -> tuple[list[PairResult], dict[str, Moments]]:
    """Animate and score a plan; clips that cannot be read are left out, with a note each."""
    from tqdm import tqdm

    results: list[PairResult] = []
    features: dict[str, Moments] = {}
    inception = observer.judges.inception
    for pairs in tqdm(plan, desc=what, unit=" clips", disable=None, leave=False):
        try:
            frames = _frames_of(store, pairs)
        except DataError as error:
            if (note := f"Left out: {error}".replace(f"{store.folder}/", "")) not in notes:
                notes.append(note)
            continue
        source = observer.see(frames[pairs[0].source])
        reference = observer.see(frames[pairs[0].reference]) if pairs[0].relative else source
        for pair in pairs:
            driver = observer.see(frames[pair.driver])
            pictures, engine_ms = animator.pictures(source.rgb, reference.rgb if pair.relative else None, driver.rgb)
            seen = {method: source if method == "copy" else observer.see(pictures[method]) for method in METHODS}
            results.append(score_pair(pair, source, reference, driver, seen, observer.judges, engine_ms))
            if inception is not None and not pair.relative:
                for name, rgb in (("driver", driver.rgb), *pictures.items()):
                    features.setdefault(name, Moments(Inception.SIZE)).add(inception(rgb))
    return results, features


def _frames_of(store: ClipStore, pairs: Sequence[Pair]) -> dict[Still, Rgb]:
    wanted: dict[int, set[int]] = {}
    for pair in pairs:
        for still in pair:
            wanted.setdefault(still.clip, set()).add(still.frame)
    return {
        Still(clip, number): rgb
        for clip, numbers in wanted.items()
        for number, rgb in store.read(clip, sorted(numbers)).items()
    }


def measure_jitter(store: ClipStore, clips: Sequence[int], animator: Animator, seed: int) -> Jitter:
    """Let the middle frame of each clip drive, again and again, with new noise or another shift each time.

    Args:
        store: the data.
        clips: which clips.
        animator: of the model.
        seed: of noise and shifts.
    """
    rng = np.random.default_rng(seed)
    rows: list[Jitter] = []
    for clip in clips:
        middle = store.clips[clip].frames // 2
        frames = store.read(clip, [0, middle])
        driver, half_px = frames[middle], (store.size_px - 1) / 2
        scale = REFERENCE_SIDE_PX / store.size_px
        noisy = [_with_noise(driver, rng) for _ in range(JITTER_FRAMES)]
        shifts = rng.uniform(-SHIFT_PX, SHIFT_PX, (JITTER_FRAMES, 2))
        predictions = [animator.pictures(frames[0], None, frame)[0]["model"].astype(np.float32) for frame in noisy]
        places, deformations = zip(*map(animator.motion, noisy), strict=True)
        shifted = np.stack([animator.motion(_shifted(driver, shift))[0] for shift in shifts])
        missed = shifted * half_px - shifts[:, None]
        rows.append(
            Jitter(
                keypoints_px=_restlessness(np.stack(places) * half_px) * scale,
                picture_px=_restlessness(np.stack(deformations) * half_px) * scale,
                flicker_levels=_restlessness(np.stack(predictions)[..., None]),
                shifted_keypoints_px=_restlessness(missed) * scale,
            )
        )
    return Jitter(*(float(np.mean(column)) for column in zip(*map(dataclasses.astuple, rows), strict=True)))


def _restlessness(places: NDArray[Any]) -> float:
    """(times, ..., D) vectors: root mean square distance from each one's mean over time."""
    away = places - places.mean(axis=0)
    return float(np.sqrt(np.square(away).sum(axis=-1).mean()))


def _with_noise(rgb: Rgb, rng: np.random.Generator) -> Rgb:
    noisy: Rgb = (rgb + rng.normal(0, NOISE_LEVELS, rgb.shape)).round().clip(0, 255).astype(np.uint8)
    return noisy


def _shifted(rgb: Rgb, shift_px: NDArray[np.float64]) -> Rgb:
    """Moved to the right and down by less than a pixel; what comes in repeats the border.

    By Catmull-Rom's cubic. That of OpenCV and torch is steeper (-0.75 in place of -0.5) and does not even keep a ramp
    straight: a shift of 0.25 px would become one of 0.28 px.
    """
    moved = rgb.astype(np.float64)
    for axis, shift in ((1, shift_px[0]), (0, shift_px[1])):
        whole = int(np.floor(-shift))
        t = -shift - whole
        weights = (
            ((2 - t) * t - 1) * t / 2,
            (3 * t - 5) * t * t / 2 + 1,
            ((4 - 3 * t) * t + 1) * t / 2,
            (t - 1) * t * t / 2,
        )
        padded = np.pad(moved, [(2, 2) if each == axis else (0, 0) for each in range(3)], mode="edge")
        places = np.arange(moved.shape[axis]) + whole + 1  # of the sample before, counted with the padding
        moved = sum(weight * padded.take(places + step, axis) for step, weight in enumerate(weights))
    shifted: Rgb = moved.round().clip(0, 255).astype(np.uint8)
    return shifted


def pictures_of(data: Path, pair: Pair, animator: Animator) -> dict[str, Rgb]:
    """A pair's pictures once more, for a sheet: `source`, `driver`, and one a method."""
    store = ClipStore(data)
    frames = _frames_of(store, [pair])
    reference = frames[pair.reference] if pair.relative else None
    pictures, _ = animator.pictures(frames[pair.source], reference, frames[pair.driver])
    return {"source": frames[pair.source], "driver": frames[pair.driver], **pictures}
