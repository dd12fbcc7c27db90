from pathlib import Path

import pytest
import torch

from mcnet.bench.macs import count_macs
from mcnet.config import ConfigError, McnetConfig
from training.fit.config import SHIPPED, FitConfig, differences, format_config, load_config, smallest_picture_px
from training.fit.discriminator import Discriminator, DiscriminatorBlock
from training.fit.growth import can_grow


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configurations_load_and_print_what_they_are(name: str, tmp_path: Path) -> None:
    config = load_config(name)
    printed = tmp_path / "printed.toml"
    printed.write_text(format_config(config), encoding="utf-8")
    assert load_config(printed) == config
    assert FitConfig.from_dict(config.to_dict()) == config


def test_released_is_the_reference() -> None:
    config = load_config("released")
    assert config.model == McnetConfig.named("released")
    loss = config.loss
    assert (loss.perceptual, loss.backbone, loss.scales) == (10, "vgg19", (1, 2, 4, 8))
    assert (loss.equivariance_value, loss.equivariance_jacobian, loss.keypoint_distance) == (10, 10, 10)
    assert (loss.feature_consistency, loss.gan, loss.feature_matching) == (10, 0, 10)
    assert (loss.l1, loss.warped, loss.occlusion, loss.guidance, loss.mouth, loss.eyes) == (0, 0, 0, 0, 0, 0)
    assert (loss.warp_affine, loss.warp_bend) == (0.05, 0.005)
    assert (config.full.epochs, config.full.repeats, config.full.batch) == (100, 75, 8)
    assert (config.full.learning_rate, config.full.decay_at, config.full.decay_factor) == (2e-4, (0.8,), 0.1)
    assert (config.optim.beta1, config.optim.beta2, config.optim.clip_norm) == (0.5, 0.999, 10)
    assert config.motion.steps == config.motion.epochs == config.detector.steps == config.detector.epochs == 0
    assert (loss.correspondence, loss.openings, loss.guidance_openings) == (0, 0, 0)
    assert (config.full.detector_rate, config.full.motion_rate, config.full.encoder_rate) == (1, 1, 1)
    assert (config.data.lively_share, config.augment.disturb_share) == (0, 0)


def test_overrides() -> None:
    config = load_config("smoke", ["loss.l1=2", "run.initial=starter", "model.memory.levels_px=[]", "loss.scales=[1]"])
    assert config.loss.l1 == 2.0
    assert config.run.initial == "starter"
    assert config.model.memory.levels_px == ()
    assert config.loss.scales == (1,)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.l2=1", r"unknown config key loss\.l2"),
        ("lose.l1=1", r"unknown config key lose; .*; did you mean loss\?"),
        ("loss.percetual=1", r"unknown config key loss\.percetual; .*; did you mean perceptual\?"),
        ("model.num_keypoint=15", r"unknown config key num_keypoint; .*; did you mean num_keypoints\?"),
        ("model.width=1", "unknown config key width"),
        ("loss.l1", "expected key=value"),
        ("loss.l1=[1]", r"loss\.l1: got \[1\], expected float"),
        ("loss.l1=true", r"loss\.l1: got True, expected float"),
        ("loss.l1=2\nl2 = 3", r"loss\.l1: got '2\\nl2 = 3', expected float"),
        ("loss.l1=-1", r"loss\.l1: got -1.0, expected a number from 0 to 1e\+18"),
        ("loss.l1=inf", r"loss\.l1: got inf, expected"),
        ("optim.clip_norm=nan", r"optim\.clip_norm: got nan, expected"),
        ("loss.backbone=resnet", r"loss\.backbone: got 'resnet', expected vgg19 or"),
        ("loss=1", "loss: got 1, expected a table"),
        ("loss.guidance_points=[1]", "expected 5 mesh points"),
        ("loss.guidance_points=[386, 159, 1, 291, 3]", r"got \[3\], expected some of"),
        ("loss.guidance_points=[386, 145, 1, 291, 61]", "both points of each left-right pair"),
        ("full.learning_rate=1e300", r"full\.learning_rate: got 1e\+300, expected a number from 0 to 1e\+18"),
        ("full.decay_factor=2", r"full\.decay_factor: got 2.0, expected at most 1"),
        ("full.decay_at=[0.5, nan]", r"full\.decay_at: got \(0.5, nan\), expected shares of the stage"),
        ("optim.beta2=1", r"optim\.beta2: got 1.0, expected less than 1"),
        ("loss.scales=[1, 1000]", r"loss\.scales: got \(1, 1000\), expected factors from 1 to 256"),
        ("loss.discriminator_widths=[4, 4, 4, 4, 4, 4, 4, 4]", r"widths: got .*, expected fewer blocks: each halves"),
        ("=3", "--set =3: expected key=value such as"),
        ("model.base=big", "no configuration is named 'big'"),
        ("run.precision=fp16", "bf16 or fp32 where loss.gan or loss.crops_gan is above 0"),
        ("motion.epochs=3", "0 where steps is given"),
        ("loss.warped_px=100", r"loss\.warped_px: got 100, expected 64 or 256"),
        ("loss.occlusion_by=both", r"loss\.occlusion_by: got 'both', expected price or errors"),
        ("loss.generated=-1", r"loss\.generated: got -1.0, expected a number from 0"),
        ("loss.crop_px=600", r"loss\.crop_px: got 600, expected 32 to 512"),
        ("loss.crop_discriminator_widths=[]", "expected widths of at least 1"),
        ("loss.picture_openings=1", "points on both sides of an eye or of the mouth"),
        ("run.seed=9223372036854775808", r"run\.seed: got .*, expected a number from 0 to 9223372036854775807"),
        ("data.path=caf\udce9", r"data\.path: got .*, expected text: rename the file or folder"),
        ("full.steps=" + "[" * 100_000, r"full\.steps: got .*, expected int"),
        ("full.steps=" + "9" * 5000, r"full\.steps: got .*, expected int"),
        ("data.lively_share=2", r"data\.lively_share: got 2.0, expected at most 1"),
    ],
)
def test_refused_by_name(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("smoke", [override])


def test_a_stage_may_not_have_more_pairs_than_there_are() -> None:
    with pytest.raises(
        ConfigError, match=r"full\.stills: got 3.0, expected a share of at most 1 \(stills: 0.5 of it\)"
    ):
        load_config("smoke", ["data.stills_share=0.5", "full.stills=3.0"])


def test_a_file_that_is_not_there_and_one_that_is_no_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither a file nor a shipped name"):
        load_config("nothing")
    with pytest.raises(ConfigError, match="neither a file nor a shipped name"):
        load_config("~nobody-of-that-name/x.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[loss\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="is no TOML"):
        load_config(broken)
    empty = tmp_path / "empty.toml"
    empty.write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="model is missing"):
        load_config(empty)


@pytest.mark.parametrize("text", ["x = " + "[" * 100_000, "x = " + "9" * 5000])
def test_what_the_reader_of_toml_chokes_on_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="is no TOML"):
        load_config(tmp_path / "odd.toml")


def test_a_file_may_begin_with_the_mark_of_its_encoding(tmp_path: Path) -> None:
    (tmp_path / "marked.toml").write_bytes(b"\xef\xbb\xbfbase = 'smoke'\r\n[full]\r\nsteps = 3\r\n")
    assert load_config(tmp_path / "marked.toml").full.steps == 3


@pytest.mark.parametrize(
    "name", ["2024-05-01", "2024", "true", "1e5", "[a]", "my data", 'a"b\\c', "a\nb\tc\x01\x7f", "дата"]
)
def test_a_folder_may_have_any_name(name: str, tmp_path: Path) -> None:
    config = load_config("smoke", [f"data.path={name}"])
    assert config.data.path == name
    (tmp_path / "again.toml").write_text(format_config(config), encoding="utf-8")
    assert load_config(tmp_path / "again.toml") == config
    assert load_config("smoke", ['data.path="quoted"']).data.path == "quoted"


def test_differences_are_named() -> None:
    old, new = load_config("smoke").to_dict(), load_config("smoke", ["loss.l1=3.0"]).to_dict()
    (difference,) = differences(old, new)
    assert difference == ("loss.l1", 10.0, 3.0)
    assert str(difference) == "loss.l1: 10.0 -> 3.0"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss.gan=0", "loss.gan_share=0.3"], "0 where neither loss.gan nor loss.crops_gan is above 0"),
        (["loss.gan_share=0.3", "loss.l1=0", "loss.perceptual=0"], "it is a share of their gradient"),
        (["loss.picture_openings=1", "loss.guidance=0", "loss.guidance_late=0"], "0 where keypoints are not guided"),
        (["loss.crops_gan=1", "loss.crop_px=60"], "got 60, expected 61 to 512"),
    ],
)
def test_what_one_key_asks_of_another(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("smoke", overrides)


@pytest.mark.parametrize("length", ["steps", "epochs"])
def test_a_detector_that_a_map_is_fitted_to_rests(length: str) -> None:
    assert load_config("starter").data.linear_share
    with pytest.raises(
        ConfigError, match=rf"detector\.{length}: got 2, expected 0 where data\.linear_share is above 0"
    ):
        load_config("starter", [f"detector.{length}=2"])


def test_the_smallest_crop_that_a_discriminator_can_judge() -> None:
    for blocks in (1, 3, 4):
        side_px, widths = smallest_picture_px(blocks), (4,) * blocks
        for tried_px, expected in ((side_px, 2), (side_px - 1, 1)):
            x = torch.zeros(1, 3, tried_px, tried_px)
            for block in Discriminator(0, widths).down_blocks:
                assert isinstance(block, DiscriminatorBlock)
                x = block.pool(block.conv(x))
            assert x.shape[-1] == expected


def test_a_configuration_changes_another(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('base = "starter"\n[model]\nresblocks = [2, 0, 0]\n[loss]\nl1 = 3.0\n', encoding="utf-8")
    starter, config = load_config("starter"), load_config(mine, ["loss.crops=2"])
    changed = {change.key: change.after for change in differences(starter.to_dict(), config.to_dict())}
    assert changed == {"model.resblocks": [2, 0, 0], "loss.l1": 3.0, "loss.crops": 2}
    mine.write_text('base = "mine"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="config key base: got 'mine', expected one of released, starter"):
        load_config(mine)


def test_the_starter_with_more_keypoints_keeps_its_budget() -> None:
    starter, larger = load_config("starter"), load_config("starter_25")
    assert can_grow(starter.model, larger.model)
    assert larger.keypoint_points[: len(starter.keypoint_points)] == starter.keypoint_points
    assert count_macs(larger.model).rewritten.total <= 2.4


def test_the_studio_is_what_its_configuration_trains() -> None:
    studio = load_config("studio")
    assert studio.model == McnetConfig.named("studio")
    assert studio.loss.guidance_points == load_config("starter").loss.guidance_points
