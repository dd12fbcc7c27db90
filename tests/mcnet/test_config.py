"""Configurations: what they describe, and what they refuse."""

import dataclasses
import json
from typing import Any

import pytest

from mcnet.config import ConfigError, McnetConfig
from mcnet.generator import Mcnet


@pytest.mark.parametrize(("name", "at_least", "at_most"), [("released", 101.8e6, 101.9e6), ("tiny", 1e5, 1e6)])
def test_size_of_the_named_ones(name: str, at_least: float, at_most: float) -> None:
    parameters = sum(weight.numel() for weight in Mcnet(McnetConfig.named(name)).parameters())
    assert at_least <= parameters <= at_most


@pytest.mark.parametrize("name", ["released", "starter", "studio", "tiny"])
def test_json_round_trip(name: str) -> None:
    config = McnetConfig.named(name)
    assert McnetConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'big'.*released, starter, studio, tiny"):
        McnetConfig.named("big")


def nested(**changes: Any) -> dict[str, Any]:
    return McnetConfig.named("tiny").to_dict() | changes


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (nested(colour=3), "unknown config key colour"),
        (nested(memory=nested()["memory"] | {"heads": 2}), r"unknown config key memory\.heads"),
        ({key: value for key, value in nested().items() if key != "size_px"}, "config key size_px is missing"),
        (nested(size_px=300), "size_px: got 300, expected 64 or 128 or 256 or 512"),
        (nested(num_keypoints="5"), "num_keypoints: got '5', expected int"),
        (nested(lateral=1), "lateral: got 1, expected bool"),
        (nested(memory=7), "memory: got 7, expected a table"),
        (nested(lateral=False), r"decoder_widths: got .* expected \(32, 24, 16, 8\)"),
        (nested(resblocks=[1, 1]), r"resblocks: got \(1, 1\), expected 3 counts"),
        (nested(resblocks=[1, 1, 1.0]), "resblocks: got .* expected a list of whole numbers"),
        (nested(memory=nested()["memory"] | {"levels_px": [64, 32]}), "levels_px: .* in rising order"),
        (nested(memory=nested()["memory"] | {"levels_px": [256]}), "levels_px"),
        (nested(memory=nested()["memory"] | {"conditioning": "age"}), "conditioning: got 'age'"),
        (nested(decoder_widths=[23, 16, 12, 8]), "an even width at 32 px"),
        (nested(resblocks=[10**9, 0, 0]), "resblocks: got 1000000000, expected at most 64"),
        (nested(num_keypoints=10**9), "num_keypoints: got 1000000000, expected at most 65536"),
        (nested(memory=nested()["memory"] | {"size": 10**9}), "memory: got 1000000000, expected at most"),
        (
            nested(encoder_widths=[8] * 10, decoder_widths=[8] * 10, resblocks=[0] * 9),
            "encoder_widths: got 10, expected at most 9",
        ),
        (nested(output_kernel=4), "output_kernel: got 4, expected an odd number"),
    ],
)
def test_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        McnetConfig.from_dict(values)


def test_levels() -> None:
    assert McnetConfig.named("released").level_sizes_px == (32, 64, 128, 256)
    large = dataclasses.replace(
        McnetConfig.named("released"),
        size_px=512,
        encoder_widths=(32, 64, 128, 256, 512),
        decoder_widths=(512, 256, 128, 64, 32),
        resblocks=(2, 2, 2, 1),
    )
    assert large.level_sizes_px == (32, 64, 128, 256, 512)
