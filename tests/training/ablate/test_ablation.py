"""The ablation of the memory, on a made-up dataset."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mcnet.checkpoint import load_model
from mcnet.config import McnetConfig
from mcnet.files import claimed
from mcnet.generator import Mcnet
from mcnet.layers import AntiAlias
from mcnet.pictures import to_picture
from tests.training.conftest import SIZE_PX, one_thread, tiny_config, write_dataset
from training.__main__ import main
from training.ablate.ablation import Ablation, AblationError, Member, Size, ablate, shrunk
from training.ablate.held_out import FIGURES, figures
from training.ablate.report import format_table, step_between
from training.ablate.variants import VARIANTS, member, with_memory
from training.data import PHOTOS, Clip, DataError, open_dataset, write_landmarks
from training.fit.config import FitConfig, load_config
from training.fit.loop import fit
from training.fit.stages import FitError
from training.fit.state import load_state

SMALL: dict[str, object] = {
    "size_px": 64,
    "encoder_widths": [4, 6, 8],
    "decoder_widths": [8, 6, 4],
    "resblocks": [0, 0],
    "memory": {"levels_px": [16, 32], "channels": 4, "size": 4, "parallel_kernels": 4, "code_hidden": 4},
    "border": "replicate",
}
"""The network of `ablation.toml` with fewer channels, as `test_the_command` has it too: what it costs, which takes a
second for each variant, is counted once.
"""


def small(heads: Path, /, **changes: dict[str, object]) -> FitConfig:
    rest: dict[str, object] = {"steps": 2, "batch": 2, "decay": "none", "detector_rate": 0.0, "motion_rate": 0.0}
    tables: dict[str, dict[str, object]] = {"model": SMALL, "full": rest, "motion": {"steps": 1}, **changes}
    return tiny_config(heads, **tables)


def run(config: FitConfig, out: Path, **options: Any) -> Ablation:
    return ablate(config, out, **({"seeds": 2, "frames_per_clip": 3} | options))


@pytest.fixture(scope="module")
def done(heads: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[FitConfig, Path, Ablation]:
    out = tmp_path_factory.mktemp("ablation")
    config = small(heads)
    with one_thread():
        return config, out, run(config, out)


def test_every_variant_with_every_seed_is_measured(done: tuple[FitConfig, Path, Ablation]) -> None:
    _, out, ablation = done
    assert [(each.variant, each.seed) for each in ablation.members] == [
        (variant.name, seed) for variant in VARIANTS for seed in (3, 4)
    ]
    assert ablation.missing == 0
    for each in ablation.members:
        assert set(each.figures) == set(FIGURES)
        assert all(np.isfinite(value) for value in each.figures.values())
    written = json.loads((out / "ablation.json").read_text(encoding="utf-8"))
    assert written["format"] == "mcnet-ablation/1"
    assert len(written["members"]) == 8
    assert written["budget"]["pairs"] == 4
    assert (written["budget"]["training_clips"], written["budget"]["held_out_clips"]) == (3, 1)


def test_variants_begin_with_the_same_weights_and_warp_the_same_pixels(done: tuple[FitConfig, Path, Ablation]) -> None:
    config, out, _ = done
    shared = load_model(out / "shared" / "seed-3.safetensors").state_dict()
    other_seed = load_model(out / "shared" / "seed-4.safetensors").state_dict()
    assert not torch.equal(shared["generator.final.weight"], other_seed["generator.final.weight"])
    for variant in VARIANTS:
        after = load_state(out / variant.name / "seed-3" / "checkpoint.pt").model
        assert set(after) == set(Mcnet(with_memory(config.model, variant.name)).state_dict())
        still = [key for key in after if "keypoint_detector" in key or "dense_motion" in key]
        assert still
        assert all(torch.equal(after[key], shared[key]) for key in still if not key.endswith("num_batches_tracked"))
        assert not torch.equal(after["generator.final.weight"], shared["generator.final.weight"]), "nothing was learned"


def test_what_is_done_is_not_done_again(done: tuple[FitConfig, Path, Ablation]) -> None:
    config, out, before = done
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("checkpoint.pt")}
    assert len(stamps) == 10  # of two seeds: what is shared, and four variants
    assert run(config, out).members == before.members
    assert {path: path.stat().st_mtime_ns for path in out.rglob("checkpoint.pt")} == stamps


def test_it_stops_in_time_and_goes_on(heads: Path, tmp_path: Path) -> None:
    config = small(heads)
    first = run(config, tmp_path, seeds=1, max_minutes=0.0)
    assert (first.members, first.missing) == ([], 4)
    assert "4 members are not done yet" in format_table(first)
    said: list[str] = []
    second = run(config, tmp_path, seeds=1, say=said.append)
    assert second.missing == 0
    assert said == ["what all variants share, seed 3", *(f"{variant.label}, seed 3" for variant in VARIANTS)]


def test_stages_that_go_by_epochs_are_trained_as_well(heads: Path, tmp_path: Path) -> None:
    said: list[str] = []
    motion: dict[str, object] = {"steps": 0, "epochs": 1, "repeats": 2, "batch": 2}
    ablation = run(small(heads, motion=motion), tmp_path, seeds=1, say=said.append)
    assert said[0] == "what all variants share, seed 3"
    assert load_state(tmp_path / "shared" / "seed-3" / "checkpoint.pt").step == 3  # of three clips, twice
    assert ablation.budget["shared_steps"] == 3


@pytest.mark.parametrize("held_out", [Clip("s", "dee", "test", 1), Clip("p", "dee", "test", 3, PHOTOS), None])
def test_nothing_to_measure_by_is_told_before_anything_is_trained(held_out: Clip | None, tmp_path: Path) -> None:
    clips = [Clip("a", "ann", "train", 3), Clip("b", "ben", "train", 1)]
    data = write_dataset(tmp_path / "data", [*clips, held_out] if held_out else clips)
    with pytest.raises(DataError, match=r"in split 'test' to measure by .*: hold out more people .*--test-share"):
        run(small(data), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {**SMALL, "memory": {"levels_px": []}}}, "levels_px is empty"),
        ({"full": {"steps": 0}}, "full.steps and full.epochs are 0"),
        ({"run": {"initial": "starter"}}, "run.initial is starter, expected none"),
        ({"optim": {"ema_decay": 0.5}}, r"is of another ablation: optim\.ema_decay: 0\.999 -> 0\.5"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    changes: dict[str, Any], message: str, heads: Path, done: tuple[FitConfig, Path, Ablation]
) -> None:
    with pytest.raises(AblationError, match=message):
        run(small(heads, **changes), done[1])


def test_a_folder_that_went_by_epochs_is_refused_with_the_reason(heads: Path, tmp_path: Path) -> None:
    """A version before wrote down the epochs, and its variants had no steps."""
    config = small(heads, full={"steps": 0, "epochs": 2})
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
    with pytest.raises(AblationError, match=r"earlier version, .*full\.epochs.*they go by steps now: use another"):
        run(config, tmp_path)


def test_pictures_are_shrunk_as_the_detector_does_it(heads: Path, tmp_path: Path) -> None:
    dataset = open_dataset(heads)
    small_one = shrunk(dataset, 64, tmp_path)
    assert small_one.frames.shape == (len(dataset.frames), 64, 64, 3)
    expected = AntiAlias(3, SIZE_PX // 64)(to_picture(torch.from_numpy(np.array(dataset.frames[:2]))))
    assert torch.allclose(to_picture(torch.from_numpy(np.array(small_one.frames[:2]))), expected, atol=0.5 / 255 + 1e-6)
    assert small_one.clips == dataset.clips
    assert shrunk(dataset, SIZE_PX, tmp_path / "none") is dataset
    with pytest.raises(AblationError, match=rf"pictures of {SIZE_PX} px, expected a multiple of model\.size_px, 512"):
        shrunk(dataset, 512, tmp_path / "none")


def test_frames_are_shrunk_again_when_what_they_came_of_has_changed(heads: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(heads, source)
    shrunk(open_dataset(source), 64, tmp_path / "small")
    written = (tmp_path / "small" / "frames.u8").stat().st_mtime_ns
    shrunk(open_dataset(source), 64, tmp_path / "small")
    assert (tmp_path / "small" / "frames.u8").stat().st_mtime_ns == written
    old = open_dataset(source).landmarks
    write_landmarks(source / "landmarks.npz", old._replace(valid=~old.valid))  # as `relabel` leaves the table alone
    again = shrunk(open_dataset(source), 64, tmp_path / "small")
    np.testing.assert_array_equal(again.landmarks.valid, ~old.valid)
    np.full_like(open_dataset(source).frames, 200).tofile(source / "frames.u8")
    assert np.abs(shrunk(open_dataset(source), 64, tmp_path / "small").frames[:, 32, 32].astype(int) - 200).max() <= 1


def test_variants_play_against_the_same_discriminators(heads: Path, tmp_path: Path) -> None:
    loss: dict[str, object] = {"gan": 1.0, "discriminator_widths": [4, 4, 4, 4], "gan_after": 100}  # it never learns
    dataset = shrunk(open_dataset(heads), 64, tmp_path / "data")
    config = small(heads, loss=loss, motion={"steps": 0})
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, path=str(dataset.folder)))
    drawn = []
    for variant in VARIANTS:
        fit(member(config, variant.name, 3, ""), tmp_path / variant.name, max_minutes=0.0)
        drawn.append(load_state(tmp_path / variant.name / "checkpoint.pt").discriminator)
    assert drawn[0]
    for other in drawn[1:]:
        assert all(torch.equal(other[key], weight) for key, weight in drawn[0].items())


def test_held_out_figures(heads: Path, tmp_path: Path) -> None:
    """Of a network that shows the source as it is: every figure is that of copying."""
    dataset = shrunk(open_dataset(heads), 64, tmp_path)
    model = Mcnet(with_memory(FitConfig.from_dict({"model": {"base": "tiny", **SMALL}}).model, "none")).eval()
    with torch.no_grad():
        for name, weight in model.generator.dense_motion.named_parameters():
            if name in ("mask.weight", "occlusion.weight"):
                weight.zero_()
        assert model.generator.dense_motion.mask.bias is not None
        assert model.generator.dense_motion.occlusion.bias is not None
        model.generator.dense_motion.mask.bias.copy_(torch.tensor([60.0, *[0.0] * 5]))  # the background's motion: none
        model.generator.dense_motion.occlusion.bias.fill_(60.0)  # the warp is trusted everywhere
    found = figures(model, dataset, "test", 3)
    clip = next(number for number, clip in enumerate(dataset.clips) if clip.split == "test")
    frames = np.array(dataset.frames[dataset.starts[clip] :][:4]).astype(np.float64)
    assert found["l1_of_copying"] == pytest.approx(1.0, abs=0.02)  # sampling rounds at the borders
    assert found["l1"] == pytest.approx(np.abs(frames[1:] - frames[0]).mean(), rel=0.02)
    psnr = 10 * np.log10(255**2 / np.square(frames[1:] - frames[0]).mean((1, 2, 3)))
    assert found["psnr_db"] == pytest.approx(psnr.mean(), rel=0.02)
    with pytest.raises(DataError, match="no clip of two frames or more in split 'nobody'"):
        figures(model, dataset, "nobody", 3)


def members(**values: tuple[float, ...]) -> list[Member]:
    return [
        Member(name, seed, 1.0, {"l1": 3.0, "l1_of_copying": 0.5, "distrusted_l1": value, "psnr_db": 20.0})
        for name, each in values.items()
        for seed, value in enumerate(each)
    ]


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((4.0, 4.5, 5.1), "better: as the paper says"),
        ((5.5, 6.1, 6.5), "worse: contradicts the paper"),
        ((4.0, 5.6, 6.0), "not told apart"),
        ((4.9, 5.499, 5.999), "not told apart"),  # every seed is better, but by so little that it may be chance
        ((4.0, 4.5), "too few seeds"),
    ],
)
def test_a_claim_needs_more_than_chance(values: tuple[float, ...], verdict: str) -> None:
    step = step_between(members(none=(5.0, 5.5, 6.0), unconditioned=values), VARIANTS[0], VARIANTS[1])
    assert step.verdict == verdict
    assert step.changes == pytest.approx(
        [value - before for value, before in zip(values, (5.0, 5.5, 6.0), strict=False)]
    )


def test_the_table_tells_means_and_their_spread() -> None:
    measured = members(
        none=(5.0, 6.0, 5.5), unconditioned=(4.0, 4.9, 4.4), keypoints=(5.0, 6.0, 5.5), released=(4.0, 4.9, 4.6)
    )
    budget: dict[str, Any] = dict.fromkeys(("size_px", "steps", "batch", "seeds", "shared_steps", "training_clips"), 2)
    budget |= dict.fromkeys(("held_out_clips", "frames_per_clip", "minutes", "threads"), 1) | {"device": "cpu"}
    sizes = {variant.name: Size(1.0, 2.0, 1.5) for variant in VARIANTS}
    lines = format_table(Ablation(measured, sizes, budget, 0)).splitlines()
    rows = [line for line in lines if line.startswith("| ")][2:]
    assert [row.split(" | ")[0] for row in rows] == [f"| {variant.label}" for variant in VARIANTS]
    assert "5.50 ± 0.50" in rows[0]
    assert "-1.000, -1.100, -1.100 | better | better: as the paper says" in rows[1]
    assert "worse: contradicts the paper" in rows[2]
    assert "not compared | better |" in rows[3]


def test_the_shipped_configuration_is_that_of_the_four_variants() -> None:
    config = load_config("ablation")
    networks = [with_memory(config.model, variant.name) for variant in VARIANTS]
    assert [network.memory.levels_px for network in networks] == [(), (16, 32), (16, 32), (16, 32)]
    assert [network.memory.conditioning for network in networks][1:] == ["none", "keypoints", "keypoints+appearance"]
    plain = [dataclasses.replace(network, memory=config.model.memory) for network in networks]
    assert len({json.dumps(network.to_dict()) for network in plain}) == 1
    assert McnetConfig.named("released").memory.conditioning == "keypoints+appearance"


def test_the_command(heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_up = ["model.encoder_widths=[4,6,8]", "model.decoder_widths=[8,6,4]", "model.resblocks=[0,0]"]
    made_up += [f"model.memory.{name}=4" for name in ("channels", "size", "code_hidden")]
    steps = ("motion.steps=1", "full.steps=1", "motion.batch=2", "full.batch=2", "loss.guidance_steps=1")
    changes = [part for value in (*made_up, *steps) for part in ("--set", value)]
    where = ["--data", str(heads), "--out", str(tmp_path / "out"), "--seeds", "1"]
    assert main(["ablate", *where, *changes, "--frames-per-clip", "2"]) == 0
    table = capsys.readouterr().out
    assert table == (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert all(variant.label in table for variant in VARIANTS)


def test_a_config_without_data_is_told(tmp_path: Path) -> None:
    with pytest.raises((DataError, FitError), match="is no dataset"):
        run(small(tmp_path / "nothing"), tmp_path / "out")


def test_a_folder_in_the_tables_place_is_told_before_the_first_member(
    heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "table.md").mkdir(parents=True)
    assert main(["ablate", "--data", str(heads), "--out", str(tmp_path / "out")]) == 2
    assert "table.md: it is a folder, expected a file's name" in capsys.readouterr().err
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["table.md"]


def test_two_calls_are_not_at_work_in_one_folder(
    heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with claimed(tmp_path / "ablation.json"):
        assert main(["ablate", "--data", str(heads), "--out", str(tmp_path), "--max-minutes", "0"]) == 2
    assert "another call is at work in" in capsys.readouterr().err
