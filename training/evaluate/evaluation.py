"""Evaluates a model on clips that it has not learned from.

Self-reenactment: a clip's first frame is the source, frames of the same clip drive it with absolute keypoints, and what
comes out is compared with the driving frame itself. Cross-identity: somebody else drives, from a reference frame on,
so that only identity, expression and the head's movement can be compared. Predictions come out of the engine, as people
see them; `training.evaluate.methods` tells what stands beside them.
"""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mcnet.arrays import Rgb
from mcnet.commands.drives import Shot
from mcnet.engine import Engine, EngineOptions, Runtime
from mcnet.generator import Mcnet
from mcnet.media.crop import SquareBox
from mcnet.media.expressions import Mesh
from mcnet.media.face_mesh import PlainMesh
from mcnet.media.faces import Face, FaceFinder
from training.data import CLIP, CLIPS_FORMAT, Clip, DataError, decode, is_packed, open_dataset, read_table
from training.evaluate.blending import blend_shares
from training.evaluate.jitter import StillPerformer, mean_jitter, measure_jitter
from training.evaluate.methods import MethodRunner
from training.evaluate.metric_networks import Inception, MetricNetworks, open_metric_networks
from training.evaluate.metrics import Moments, frechet_distance
from training.evaluate.options import EvaluateError, EvaluateOptions
from training.evaluate.references import choose_reference, reference_candidates
from training.evaluate.scores import (
    COPY,
    Comparison,
    Evaluation,
    Jitter,
    Pair,
    PairResult,
    Score,
    Seen,
    Still,
    result_of,
    score,
    summarise,
    who,
)

logger = logging.getLogger(__name__)

JITTER_CLIPS = 4
_SETTLING_FRAMES = 8
"""How long a still performer's face is followed before it counts: where it is looked for settles over some frames."""


class ClipStore:
    """Frames of a packed dataset or of a folder of clips, of which only the clips in use are decoded.

    Args:
        folder: either.

    Raises:
        DataError: it is neither, or is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._packed = open_dataset(folder) if is_packed(folder) else None
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
            f"{data} has no clip of two frames or more in split {options.split!r}; its splits: {splits}; photographs "
            "do not count, as nobody moves in them"
        )
    plan = plan_cross_pairs(store.clips, chosen, options)
    engine = make_engine(model, options)
    pictures = sum(len(self_pairs(clip, store.clips[clip].frames, options.frames_per_clip)) for clip in chosen)
    networks = open_metric_networks(
        torch.device(engine.choice.device), pictures, paper_landmarks=options.paper_landmarks
    )
    runner = MethodRunner(model, engine)
    with _Observer(networks, measures=runner.measures) as observer:
        session = _Session(store, runner, observer, options)
        session.notes += networks.notes
        if not plan and options.cross_pairs != 0:
            session.notes.append(f"Cross-identity is left out: split {options.split!r} shows one person only")
        started = time.perf_counter()
        for number, clip in enumerate(chosen, start=1):
            session.evaluate_clip(clip, [pairs for pairs in plan if pairs[0].performer.clip == clip])
            elapsed_s = time.perf_counter() - started
            left_s = elapsed_s / number * (len(chosen) - number)
            logger.info("clip %d of %d: %.0f s, about %.0f s left", number, len(chosen), elapsed_s, left_s)
    return session.conclude()


def make_engine(model: Mcnet, options: EvaluateOptions) -> Engine:
    """On torch from the first frame to the last, or with int8 on OpenVINO, which alone knows it.

    Raises:
        EngineError: the device or the precision cannot be had.
    """
    backend: Runtime = "openvino" if options.precision == "int8" else "torch"
    return Engine(model, EngineOptions(device=options.device, precision=options.precision, backend=backend))


def choose_clips(clips: Sequence[Clip], split: str, max_clips: int | None) -> list[int]:
    """The split's clips of two frames or more by number: everybody's first clip, then everybody's second, and so on.

    Packs of photographs are no clips: nobody moves in them.
    """
    seen: dict[str, int] = {}
    ranked: list[tuple[int, int]] = []
    for number, clip in enumerate(clips):
        if clip.split == split and clip.frames > 1 and clip.kind == CLIP:
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


def plan_cross_pairs(clips: Sequence[Clip], performers: Sequence[int], options: EvaluateOptions) -> list[list[Pair]]:
    """Pairs of different people, drawn by the seed: clips drive in turn, and a person's clip or still is the source.

    Args:
        clips: all of the dataset.
        performers: clips that drive.
        options: the split, how many, and the seed.

    Returns:
        The pairs of each source and driving clip; empty if there are no two people.
    """
    people: dict[str, list[int]] = {}
    for number, clip in enumerate(clips):
        if clip.split == options.split and (clip.frames == 1 or number in performers):
            people.setdefault(who(clip), []).append(number)
    count = len(performers) if options.cross_pairs is None else options.cross_pairs
    if len(people) < 2:
        return []
    rng = np.random.default_rng(options.seed)
    orders = {
        performer: rng.permutation([person for person in sorted(people) if person != who(clips[performer])])
        for performer in performers
    }
    plan: list[list[Pair]] = []
    for turn in range(count):
        performer = performers[turn % len(performers)]
        others = orders[performer]
        source = Still(int(rng.choice(people[str(others[turn // len(performers) % len(others)])])), 0)
        wanted = driving_frames(clips[performer].frames, options.frames_per_clip)
        plan.append([Pair(source, Still(performer, 0), Still(performer, frame)) for frame in wanted])
    return plan


class _Observer:
    """Finds in a picture what figures and methods need.

    The metrics are taken by the plain mesh, which makes no keypoints, and by which earlier figures were taken.

    Args:
        networks: for what needs more than the mesh.
        measures: whether the attention mesh is to measure keypoints for the methods.
    """

    def __init__(self, networks: MetricNetworks, *, measures: bool) -> None:
        self.networks = networks
        self._plain_finder = FaceFinder(mesh=PlainMesh())
        self._finder = FaceFinder()
        self._tracker = FaceFinder(tracking=True) if measures else None
        self._measures = measures

    def __enter__(self) -> "_Observer":
        return self

    def __exit__(self, *_: object) -> None:
        for finder in (self._plain_finder, self._finder, self._tracker):
            if finder is not None:
                finder.close()

    def see(self, rgb: Rgb) -> Seen:
        """What the networks see."""
        faces = self._plain_finder.find(rgb)
        networks = self.networks
        paper = networks.paper.find(rgb) if networks.paper else None
        if not faces:
            return Seen(rgb, None, None, paper, None)
        mesh = faces[0].landmarks_px
        return Seen(
            rgb=rgb,
            mesh=mesh,
            embedding=networks.identity.embed(rgb, mesh) if networks.identity else None,
            paper=paper,
            eyes=networks.iris.look(rgb, mesh) if networks.iris else None,
        )

    def measure(self, rgb: Rgb) -> Face | None:
        """The face as keypoints are measured on it, and references chosen by it."""
        faces = self._finder.find(rgb)
        return faces[0] if faces else None

    def shot(self, rgb: Rgb) -> Shot:
        """What methods are given, with the face if they measure."""
        return _shot(rgb, self.measure(rgb) if self._measures else None)

    def follow(self, rgb: Rgb, frames: Sequence[Rgb]) -> list[Shot]:
        """Frames of a performer who is still; the face is followed as it is live.

        Args:
            rgb: (S, S, 3), what the camera has seen for a while.
            frames: what it sees then.
        """
        tracker = self._tracker
        if tracker is None:
            return [_shot(frame, None) for frame in frames]
        tracker.forget()
        for _ in range(_SETTLING_FRAMES):
            tracker.find(rgb)
        return [_shot(frame, next(iter(tracker.find(frame)), None)) for frame in frames]


def _shot(rgb: Rgb, face: Face | None) -> Shot:
    side_px = rgb.shape[0]
    return Shot(rgb, face, SquareBox(side_px / 2, side_px / 2, side_px), side_px)


class _Stills:
    """Some frames and what was found in them, each looked at once."""

    def __init__(self, frames: dict[Still, Rgb], observer: _Observer) -> None:
        self.frames = frames
        self._observer = observer
        self._seen: dict[Still, Seen] = {}
        self._shots: dict[Still, Shot] = {}

    def seen(self, still: Still) -> Seen:
        if still not in self._seen:
            self._seen[still] = self._observer.see(self.frames[still])
        return self._seen[still]

    def shot(self, still: Still) -> Shot:
        if still not in self._shots:
            self._shots[still] = self._observer.shot(self.frames[still])
        return self._shots[still]


class _Session:
    """One evaluation, while it runs."""

    def __init__(self, store: ClipStore, runner: MethodRunner, observer: _Observer, options: EvaluateOptions) -> None:
        self.notes: list[str] = []
        self._left_out: list[str] = []
        self._store = store
        self._runner = runner
        self._observer = observer
        self._options = options
        self._self_results: list[PairResult] = []
        self._cross_results: dict[str, list[PairResult]] = {kind: [] for kind in options.references}
        self._features: dict[str, Moments] = {}
        self._jitter: dict[str, list[Jitter]] = {}
        self._rng = np.random.default_rng(options.seed)
        self._jitter_clips = 0

    def evaluate_clip(self, clip: int, plan: Sequence[Sequence[Pair]]) -> None:
        """Let a clip drive its first frame, and other people as planned; if it cannot be read it is noted.

        Args:
            clip: by number.
            plan: cross-identity's pairs of each source, all driven by this clip.
        """
        count = self._store.clips[clip].frames
        own = self_pairs(clip, count, self._options.frames_per_clip)
        candidates = reference_candidates(count, self._options.references) if plan else []
        still_performer = [count // 2] if self._jitter_clips < JITTER_CLIPS else []
        wanted = [0, *candidates, *still_performer, *(pair.performer.frame for pair in own)]
        frames = self._read(clip, wanted)
        if frames is None:
            return
        stills = _Stills(frames, self._observer)
        self._self_results += self._score(own, stills)
        if still_performer:
            self._jitter_clips += 1
            self._measure_jitter(stills.shot(Still(clip, 0)), frames[Still(clip, *still_performer)])
        if not plan:
            return
        meshes: dict[int, Mesh | None] = {}
        for frame in candidates:
            face = self._observer.measure(frames[Still(clip, frame)])
            meshes[frame] = None if face is None else face.landmarks_px
        references = {kind: Still(clip, choose_reference(kind, meshes)) for kind in self._options.references}
        for pairs in plan:
            source = pairs[0].source
            frames = self._read(source.clip, [source.frame])
            if frames is None:
                continue
            stills.frames |= frames
            for kind, reference in references.items():
                chosen = [pair._replace(reference=reference) for pair in pairs]
                self._cross_results[kind] += self._score(chosen, stills)

    def conclude(self) -> Evaluation:
        """The figures.

        Raises:
            DataError: no clip could be read.
        """
        if not self._self_results:
            raise DataError(
                f"none of the {len(self._left_out)} clips of {self._store.folder} can be used; {self._left_out[0]}"
            )
        runner = self._runner
        own = self._compare(self._self_results, of_self=True)
        for method, moments in self._features.items():
            if method in own.figures:
                own.figures[method]["fid"] = frechet_distance(moments, self._features["performer"])
        cross = {kind: results for kind, results in self._cross_results.items() if results}
        times_ms: dict[str, list[float]] = {}
        for result in (*self._self_results, *(result for results in cross.values() for result in results)):
            for method, elapsed_ms in result.engine_ms.items():
                times_ms.setdefault(method, []).append(elapsed_ms)
        if runner.held:
            self.notes.append(
                f"Measured keypoints: {runner.held} pictures hold the one before them, since the driving frame shows "
                "no face that can be measured"
            )
        if runner.detected_instead:
            self.notes.append(
                f"Measured keypoints: {runner.detected_instead} times they were detected instead for a clip, since "
                "its source or reference shows no face that can be measured"
            )
        if runner.unretouched.frames:
            self.notes.append(
                f"Retouching: it failed for {runner.unretouched.frames} pictures in space, which are as the network "
                f"makes them ({runner.unretouched.reason})"
            )
        return Evaluation(
            clips=self._store.clips,
            of_self=own,
            blend=blend_shares([result.blend for result in self._self_results]),
            of_cross={kind: self._compare(results, of_self=False) for kind, results in cross.items()},
            jitter={method: mean_jitter(rows) for method, rows in self._jitter.items()},
            engine_ms={
                method: (float(np.median(times)), float(np.percentile(times, 95))) for method, times in times_ms.items()
            },
            device=runner.engine.choice.reason,
            size_px=self._store.size_px,
            notes=(*self.notes, *(f"Left out: {reason}" for reason in self._left_out)),
        )

    def _read(self, clip: int, frames: Sequence[int]) -> dict[Still, Rgb] | None:
        try:
            return {Still(clip, number): rgb for number, rgb in self._store.read(clip, frames).items()}
        except DataError as error:
            if (reason := str(error).replace(f"{self._store.folder}/", "")) not in self._left_out:
                self._left_out.append(reason)
            return None

    def _score(self, pairs: Sequence[Pair], stills: _Stills) -> list[PairResult]:
        """Animate and score pairs of one source and one reference."""
        source, first, of_self = stills.seen(pairs[0].source), stills.seen(pairs[0].reference), not pairs[0].relative
        reference = None if of_self else stills.shot(pairs[0].reference)
        performers = [stills.shot(pair.performer) for pair in pairs]
        scores: list[dict[str, Score]] = [{} for _ in pairs]
        engine_ms: list[dict[str, float]] = [{} for _ in pairs]
        for method in self._runner.methods(of_self=of_self):
            pictures = self._runner.perform(method, stills.shot(pairs[0].source), reference, performers)
            for number, (pair, picture) in enumerate(zip(pairs, pictures, strict=True)):
                shown = source if method == COPY else self._observer.see(picture.rgb)
                performer = stills.seen(pair.performer)
                scores[number][method] = score(
                    shown, source, first, performer, self._observer.networks, of_self=of_self
                )
                if picture.engine_ms is not None:
                    engine_ms[number][method] = picture.engine_ms
                if of_self:
                    self._count_features(method, picture.rgb)
        if of_self:
            for pair in pairs:
                self._count_features("performer", stills.frames[pair.performer])
        blends = self._runner.blends(stills.shot(pairs[0].source), performers) if of_self else [None] * len(pairs)
        return [
            result_of(pair, source, first, stills.seen(pair.performer), scores[number], engine_ms[number], blend)
            for number, (pair, blend) in enumerate(zip(pairs, blends, strict=True))
        ]

    def _count_features(self, name: str, rgb: Rgb) -> None:
        inception = self._observer.networks.inception
        if inception is not None:
            self._features.setdefault(name, Moments(Inception.SIZE)).add(inception(rgb))

    def _measure_jitter(self, source: Shot, performer: Rgb) -> None:
        still = StillPerformer(performer, self._rng)
        noisy, shifted = (self._observer.follow(performer, frames) for frames in (still.noisy, still.shifted))
        for method in self._runner.still_methods:
            row = measure_jitter(self._runner, method, source, noisy, shifted, still.shifts_px)
            if row is not None:
                self._jitter.setdefault(method, []).append(row)

    def _compare(self, results: Sequence[PairResult], *, of_self: bool) -> Comparison:
        methods = self._runner.methods(of_self=of_self)
        return Comparison(tuple(results), {method: summarise(results, method) for method in methods})


def pictures_of(
    store: ClipStore, pairs: Sequence[Pair], runner: MethodRunner, finder: FaceFinder
) -> dict[Pair, dict[str, Rgb]]:
    """Pictures once more, for a sheet: of each pair `source`, `reference`, `performer`, and one for each method.

    Every frame is looked at once, and a source that several pairs animate from one reference is encoded once.

    Args:
        store: the data.
        pairs: which.
        runner: of the model.
        finder: measures keypoints.
    """
    shots: dict[Still, Shot] = {}

    def shot(still: Still) -> Shot:
        if still not in shots:
            rgb = store.read(still.clip, [still.frame])[still.frame]
            faces = finder.find(rgb) if runner.measures else []
            shots[still] = _shot(rgb, faces[0] if faces else None)
        return shots[still]

    pictures: dict[Pair, dict[str, Rgb]] = {}
    together: dict[Sequence[Still | None], list[Pair]] = {}
    for pair in dict.fromkeys(pairs):
        source, reference, performer = map(shot, pair)
        pictures[pair] = {"source": source.square, "reference": reference.square, "performer": performer.square}
        # A frame without a face holds the picture before it, which is no other row's.
        alone = pair.performer if runner.measures and performer.face is None else None
        together.setdefault((pair.source, pair.reference, alone), []).append(pair)
    for some in together.values():
        start = shot(some[0].reference) if some[0].relative else None
        performers = [shot(pair.performer) for pair in some]
        for method in runner.methods(of_self=not some[0].relative):
            made = runner.perform(method, shot(some[0].source), start, performers)
            for pair, performed in zip(some, made, strict=True):
                pictures[pair][method] = performed.rgb
    return pictures
