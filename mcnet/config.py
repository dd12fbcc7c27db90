"""What describes a member of the MCNet family: sizes only, never how fast or where it runs."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

from mcnet.errors import UserError
from mcnet.phrases import listed, offered, phrase

Conditioning = Literal["none", "keypoints", "keypoints+appearance"]
Border = Literal["zeros", "replicate"]

MOTION_SIZE_PX = 64
"""Keypoints and dense motion work on 64x64 pictures, whatever the size of the picture that is animated."""

SIZES_PX = (64, 128, 256, 512)
"""Sides of the pictures that a network can be built for."""

MIN_SIDE_PX = 64
"""Smaller pictures are refused."""

HEATMAP_VARIANCE = 0.01
"""Variance of the Gaussians that stand for keypoints, in squared coordinate units."""
HEATMAP_TEMPERATURE = 0.1
"""Of the softmax that turns the keypoint detector's logits into a heatmap."""
QUERY_SCALE = 0.25
"""The attention's logits are q.k / 4: the released network's scale, whatever its channels (kept for parity)."""
KERNEL_TEMPERATURE = 34.0
"""Of the softmax that weighs the memory's parallel kernels."""
DEMODULATION_EPS = 1e-8
"""What keeps the demodulation of the memory bank from dividing by zero."""
NORM_EPS = 1e-5
"""Likewise BatchNorm and InstanceNorm; torch's default."""


class ConfigError(UserError, ValueError):
    """A configuration that no network can be built from."""


@dataclasses.dataclass(frozen=True)
class HourglassConfig:
    """An hourglass and the convolutions ("heads") that read its output."""

    width: int
    """Channels before the first DownBlock's doubling (the paper's code calls it block expansion)."""
    max_width: int
    """No block has more channels than this."""
    blocks: int
    """DownBlocks, and as many UpBlocks; each halves the side of a 64 px picture, so at most 6."""
    head_kernel: int
    """Side of the heads' convolution kernels in pixels, odd."""

    def channels(self, depth: int) -> int:
        """Width of the map after `depth` DownBlocks (and before the UpBlock that undoes them)."""
        return min(self.max_width, self.width << depth)


@dataclasses.dataclass(frozen=True)
class MemoryConfig:
    """The memory bank and its compensation (paper section 3.3)."""

    channels: int
    """Channels of the bank, and of the space in which queries meet keys."""
    size: int
    """Side of the bank; size * size positions are attended to."""
    levels_px: tuple[int, ...]
    """Sides of the warped maps that are compensated, lowest first. Empty: a network without memory."""
    parallel_kernels: int
    """Kernels that the dynamic convolution mixes."""
    code_hidden: int
    """Hidden width of the network that makes the style code, where there is one."""
    conditioning: Conditioning
    """What the scale code sees. `keypoints` (the paper's first draft): the source's keypoints, so that the conditioned
    memory is a function of the source alone. `keypoints+appearance` (as released): the pooled warped feature too.
    `none` (for comparison): there is no scale code, and the bank itself, the same for everybody, is what is asked."""

    @property
    def attention_hidden(self) -> int:
        """Hidden width of the network that weighs the parallel kernels (a quarter and one, as released)."""
        return self.channels // 4 + 1


@dataclasses.dataclass(frozen=True)
class McnetConfig:
    """One member of the family. `named` gives the ones with a name."""

    num_keypoints: int
    size_px: int
    """Side of source, driving frame and prediction: 256 or 512; or 64 or 128, for experiments."""
    keypoint_hourglass: HourglassConfig
    motion_hourglass: HourglassConfig
    encoder_widths: tuple[int, ...]
    """Channels of the source's maps at size_px, size_px / 2, ... (the encoder runs once per source)."""
    lateral: bool
    """Whether 1x1 convolutions take each encoder map to the decoder's width before it is warped."""
    decoder_widths: tuple[int, ...]
    """Channels at size_px / 2^n, ..., size_px / 2, size_px: lowest resolution first, as the decoder runs."""
    resblocks: tuple[int, ...]
    """ResBlocks before each UpBlock, lowest resolution first."""
    output_kernel: int
    """Side of the last convolution's kernel in pixels, odd."""
    memory: MemoryConfig
    border: Border = "zeros"
    """What the warp shows of places beyond the source's border: zeros (as released; black in the picture), or the
    border's own values repeated."""

    def __post_init__(self) -> None:
        levels = len(self.encoder_widths)
        for name, sizes in self._sizes():
            _require(max(sizes, default=0) <= _MOST, name, max(sizes, default=0), phrase("at most {most}", most=_MOST))
        for name, values in (("encoder_widths", self.encoder_widths), ("decoder_widths", self.decoder_widths)):
            _require(all(value >= 1 for value in values), name, values, phrase("widths of at least {least}", least=1))
        _require(self.num_keypoints >= 3, "num_keypoints", self.num_keypoints, phrase("at least {least}", least=3))
        _require(self.size_px in SIZES_PX, "size_px", self.size_px, listed(map(str, SIZES_PX), "or"))
        _require(levels >= 2, "encoder_widths", self.encoder_widths, phrase("at least two widths"))
        _require(
            len(self.decoder_widths) == levels,
            "decoder_widths",
            self.decoder_widths,
            phrase("{levels} widths, as the encoder", levels=levels),
        )
        _require(
            self.lateral or self.decoder_widths == self.encoder_widths[::-1],
            "decoder_widths",
            self.decoder_widths,
            phrase("{widths} (the encoder's, reversed) when lateral is false", widths=self.encoder_widths[::-1]),
        )
        _require(
            len(self.resblocks) == levels - 1 and min(self.resblocks) >= 0,
            "resblocks",
            self.resblocks,
            phrase("{counts} counts, one for each UpBlock", counts=levels - 1),
        )
        _require(
            self.output_kernel >= 1 and self.output_kernel % 2 == 1,
            "output_kernel",
            self.output_kernel,
            phrase("an odd number"),
        )
        _require(
            max(self.resblocks) <= _MOST_RESBLOCKS,
            "resblocks",
            max(self.resblocks),
            phrase("at most {most}", most=_MOST_RESBLOCKS),
        )
        _require(
            self.level_sizes_px[0] > 0,
            "encoder_widths",
            levels,
            phrase("at most {most}", most=self.size_px.bit_length()),
        )
        for name, hourglass in (
            ("keypoint_hourglass", self.keypoint_hourglass),
            ("motion_hourglass", self.motion_hourglass),
        ):
            _require(
                1 <= hourglass.blocks <= 6, f"{name}.blocks", hourglass.blocks, phrase("1 to 6: 64 px halve six times")
            )
            _require(
                hourglass.head_kernel in _KERNELS,
                f"{name}.head_kernel",
                hourglass.head_kernel,
                phrase("an odd number"),
            )
            _require(
                min(hourglass.width, hourglass.max_width) >= 1,
                f"{name}.width",
                hourglass.width,
                phrase("at least {least}", least=1),
            )
        _require(self.border in get_args(Border), "border", self.border, listed(get_args(Border), "or"))
        memory = self.memory
        _require(
            memory.conditioning in get_args(Conditioning),
            "memory.conditioning",
            memory.conditioning,
            listed(get_args(Conditioning), "or"),
        )
        _require(
            set(memory.levels_px) <= set(self.level_sizes_px[:-1])
            and tuple(sorted(set(memory.levels_px))) == memory.levels_px,
            "memory.levels_px",
            memory.levels_px,
            phrase("some of {sizes_px}, in rising order", sizes_px=self.level_sizes_px[:-1]),
        )
        for size_px in memory.levels_px:
            width = self.decoder_widths[self.level_sizes_px.index(size_px)]
            _require(
                width % 2 == 0,
                "decoder_widths",
                self.decoder_widths,
                phrase("an even width at {size_px} px (compensated)", size_px=size_px),
            )
        for name in ("channels", "size", "parallel_kernels", "code_hidden"):
            _require(
                getattr(memory, name) >= 1, f"memory.{name}", getattr(memory, name), phrase("at least {least}", least=1)
            )

    def _sizes(self) -> list[tuple[str, tuple[int, ...]]]:
        """What is counted or measured, by name: a file may say anything."""
        hourglasses = (
            (name, (hourglass.width, hourglass.max_width))
            for name, hourglass in (
                ("keypoint_hourglass", self.keypoint_hourglass),
                ("motion_hourglass", self.motion_hourglass),
            )
        )
        memory = self.memory
        return [
            ("num_keypoints", (self.num_keypoints,)),
            ("encoder_widths", self.encoder_widths),
            ("decoder_widths", self.decoder_widths),
            ("output_kernel", (self.output_kernel,)),
            *hourglasses,
            ("memory", (memory.channels, memory.size, memory.parallel_kernels, memory.code_hidden)),
        ]

    @property
    def level_sizes_px(self) -> tuple[int, ...]:
        """Side of the decoder's maps, lowest first; the last is the picture's own."""
        return tuple(self.size_px >> depth for depth in range(len(self.encoder_widths) - 1, -1, -1))

    @classmethod
    def named(cls, name: str) -> "McnetConfig":
        """The configuration `released`, `starter`, `studio` or `tiny`.

        Raises:
            ConfigError: for any other name.
        """
        try:
            return _NAMED[name]
        except KeyError:
            raise ConfigError(
                phrase(
                    "no configuration is named {name}; the named ones are {named}",
                    name=repr(name),
                    named=offered(_NAMED, name),
                )
            ) from None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, nested, ready for JSON; `from_dict` undoes it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "McnetConfig":
        """Build from plain nested values.

        Raises:
            ConfigError: a key is unknown or missing, or a value cannot be; the message names it.
        """
        flat = dict(values)
        parts = {"keypoint_hourglass": HourglassConfig, "motion_hourglass": HourglassConfig, "memory": MemoryConfig}
        for name, part in parts.items():
            if name in flat:
                if not isinstance(flat[name], Mapping):
                    raise _refusal(name, flat[name], phrase("a table of values"))
                flat[name] = _build(part, flat[name], f"{name}.")
        config = _build(cls, flat, "")
        assert isinstance(config, McnetConfig)
        return config


_MOST = 1 << 16
"""Of channels, keypoints and the like: far more than any network has."""
_MOST_RESBLOCKS = 64
_KERNELS = range(1, MOTION_SIZE_PX, 2)


def _require(ok: bool, key: str, got: object, expected: str) -> None:
    if not ok:
        raise _refusal(key, got, expected)


def _refusal(key: str, got: object, expected: str) -> ConfigError:
    return ConfigError(
        phrase("config key {key}: got {got}, expected {expected}", key=key, got=repr(got), expected=expected)
    )


def _build(cls: type, values: Mapping[str, Any], prefix: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if unknown := sorted(set(values) - set(fields)):
        raise ConfigError(
            phrase(
                "unknown config key {prefix}{unknown}; the known ones are {known}",
                prefix=prefix,
                unknown=unknown[0],
                known=offered(fields, unknown[0]),
            )
        )
    if missing := [
        name for name, field in fields.items() if name not in values and field.default is dataclasses.MISSING
    ]:
        raise ConfigError(phrase("config key {prefix}{missing} is missing", prefix=prefix, missing=missing[0]))
    return cls(**{name: _typed(fields[name].type, value, f"{prefix}{name}") for name, value in values.items()})


def _typed(kind: Any, value: Any, key: str) -> Any:
    """`value` as the field's type wants it: JSON has lists where we have tuples, and bools must not pass for ints."""
    if kind is int or kind is bool:
        _require(type(value) is kind, key, value, kind.__name__)
    elif kind == tuple[int, ...]:
        whole = isinstance(value, list | tuple) and all(type(item) is int for item in value)
        _require(whole, key, value, phrase("a list of whole numbers"))
        return tuple(value)
    return value


_NAMED = {
    # The authors' network (paper, supplementary material; their checkpoint).
    "released": McnetConfig(
        num_keypoints=15,
        size_px=256,
        keypoint_hourglass=HourglassConfig(width=32, max_width=1024, blocks=5, head_kernel=7),
        motion_hourglass=HourglassConfig(width=64, max_width=1024, blocks=5, head_kernel=7),
        encoder_widths=(64, 128, 256, 512),
        lateral=False,
        decoder_widths=(512, 256, 128, 64),
        resblocks=(2, 2, 2),
        output_kernel=7,
        memory=MemoryConfig(
            channels=512,
            size=32,
            levels_px=(32, 64, 128),
            parallel_kernels=4,
            code_hidden=128,
            conditioning="keypoints+appearance",
        ),
    ),
    # The bundled model: live on two CPU cores.
    "starter": McnetConfig(
        num_keypoints=17,
        size_px=256,
        keypoint_hourglass=HourglassConfig(width=16, max_width=256, blocks=5, head_kernel=3),
        motion_hourglass=HourglassConfig(width=32, max_width=256, blocks=5, head_kernel=3),
        encoder_widths=(32, 64, 128, 256),
        lateral=True,
        decoder_widths=(128, 64, 32, 16),
        resblocks=(1, 0, 0),
        output_kernel=3,
        memory=MemoryConfig(
            channels=64, size=16, levels_px=(32, 64), parallel_kernels=4, code_hidden=128, conditioning="keypoints"
        ),
        border="replicate",
    ),
    # For GPUs: the starter's keypoints and motion, at 512 px, with a decoder nearly twenty times as large.
    "studio": McnetConfig(
        num_keypoints=17,
        size_px=512,
        keypoint_hourglass=HourglassConfig(width=16, max_width=256, blocks=5, head_kernel=3),
        motion_hourglass=HourglassConfig(width=32, max_width=256, blocks=5, head_kernel=3),
        encoder_widths=(32, 64, 128, 256, 256),
        lateral=True,
        decoder_widths=(256, 128, 80, 40, 16),
        resblocks=(2, 1, 1, 0),
        output_kernel=3,
        memory=MemoryConfig(
            channels=64, size=16, levels_px=(32, 64, 128), parallel_kernels=4, code_hidden=128, conditioning="keypoints"
        ),
        border="replicate",
    ),
    # For tests: every part is there, nothing is large.
    "tiny": McnetConfig(
        num_keypoints=5,
        size_px=256,
        keypoint_hourglass=HourglassConfig(width=8, max_width=32, blocks=3, head_kernel=3),
        motion_hourglass=HourglassConfig(width=8, max_width=32, blocks=3, head_kernel=3),
        encoder_widths=(8, 16, 24, 32),
        lateral=True,
        decoder_widths=(24, 16, 12, 8),
        resblocks=(1, 1, 0),
        output_kernel=3,
        memory=MemoryConfig(
            channels=16, size=8, levels_px=(32, 64), parallel_kernels=2, code_hidden=16, conditioning="keypoints"
        ),
    ),
}


def named_configs() -> tuple[str, ...]:
    """The names that `McnetConfig.named` knows."""
    return tuple(_NAMED)


def range_names(config: McnetConfig) -> set[str]:
    """The convolutions of the fast network whose inputs' ranges have to be known for 8 bits, by name.

    `warped_N` is what the motion shows of the source at N px.
    """
    below = config.level_sizes_px[:-1]
    names = {f"warped_{size_px}" for size_px in below} | {f"up_blocks.{level}" for level in range(len(below))}
    names |= {f"memory.levels.{size_px}.outward" for size_px in config.memory.levels_px}
    for level, count in enumerate(config.resblocks):
        names |= {f"res_stages.{level}.{block}.conv{conv}" for block in range(count) for conv in (1, 2)}
    return names
