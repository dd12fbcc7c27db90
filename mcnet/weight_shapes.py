"""Which weights a configuration has, and of which shapes: what a file must hold, known without torch."""

from mcnet.config import MOTION_SIZE_PX, HourglassConfig, McnetConfig

_Shapes = dict[str, tuple[int, ...]]


def weight_shapes(config: McnetConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of `Mcnet.state_dict()` without BatchNorm's counters; the modules' own shapes are the same."""
    shapes = _shrink("keypoint_detector", config)
    shapes |= _hourglass("keypoint_detector.hourglass", 3, config.keypoint_hourglass)
    kernel, seen = config.keypoint_hourglass.head_kernel, config.keypoint_hourglass.channels(0) + 3
    shapes |= _conv("keypoint_detector.logits", seen, config.num_keypoints, kernel)
    shapes |= _conv("keypoint_detector.jacobians", seen, 4 * config.num_keypoints, kernel)
    motions = config.num_keypoints + 1
    shapes |= _shrink("generator.dense_motion", config)
    shapes |= _hourglass("generator.dense_motion.hourglass", 4 * motions, config.motion_hourglass)
    kernel, seen = config.motion_hourglass.head_kernel, config.motion_hourglass.channels(0) + 4 * motions
    shapes |= _conv("generator.dense_motion.mask", seen, motions, kernel)
    shapes |= _conv("generator.dense_motion.occlusion", seen, 1, kernel)
    encoder, decoder = config.encoder_widths, config.decoder_widths
    shapes |= _block("generator.first", 3, encoder[0], 7)
    for depth in range(len(encoder) - 1):
        shapes |= _block(f"generator.down_blocks.{depth}", encoder[depth], encoder[depth + 1])
    if config.lateral:
        for level, (encoded, decoded) in enumerate(zip(encoder[::-1], decoder, strict=True)):
            shapes |= _conv(f"generator.laterals.{level}", encoded, decoded, 1)
    if config.memory.levels_px:
        shapes |= _memory(config)
    for level, count in enumerate(config.resblocks):
        width = decoder[level] * (1 if level == 0 else 2)  # [decoded, warped]
        for block in range(count):
            for half in (1, 2):
                name = f"generator.res_stages.{level}.{block}."
                shapes |= _norm(f"{name}norm{half}", width) | _conv(f"{name}conv{half}", width, width, 3)
        shapes |= _block(f"generator.up_blocks.{level}", width, decoder[level + 1])
    return shapes | _conv("generator.final", decoder[-1], 3, config.output_kernel)


def _shrink(part: str, config: McnetConfig) -> _Shapes:
    """The kernel that shrinks the picture: see `mcnet.layers.AntiAlias`."""
    side = 4 * (config.size_px // MOTION_SIZE_PX - 1) + 1
    return {f"{part}.shrink.weight": (3, 1, side, side)}


def _hourglass(name: str, in_channels: int, config: HourglassConfig) -> _Shapes:
    shapes: _Shapes = {}
    for depth in range(config.blocks):
        wide = in_channels if depth == 0 else config.channels(depth)
        shapes |= _block(f"{name}.down_blocks.{depth}", wide, config.channels(depth + 1))
    for number, depth in enumerate(reversed(range(config.blocks))):
        wide = config.channels(depth + 1) * (1 if number == 0 else 2)
        shapes |= _block(f"{name}.up_blocks.{number}", wide, config.channels(depth))
    return shapes


def _memory(config: McnetConfig) -> _Shapes:
    memory, name = config.memory, "generator.memory"
    channels, kernels = memory.channels, memory.parallel_kernels
    shapes: _Shapes = {f"{name}.bank": (1, channels, memory.size, memory.size)}
    if memory.conditioning != "none":
        code_size = 2 * config.num_keypoints + channels * (memory.conditioning == "keypoints+appearance")
        bank = f"{name}.modulated_bank"
        shapes |= {
            f"{name}.style_route.0.weight": (memory.code_hidden, code_size),
            f"{name}.style_route.0.bias": (memory.code_hidden,),
            f"{name}.style_route.2.weight": (channels, memory.code_hidden),
            f"{name}.style_route.2.bias": (channels,),
            f"{bank}.modulation_weight": (channels, channels),
            f"{bank}.modulation_bias": (channels,),
            f"{bank}.weight": (channels, channels, 3, 3),
            f"{bank}.noise_strength": (1,),
            f"{bank}.bias": (channels,),
        }
    shapes |= {
        f"{name}.key_value.weight": (kernels, 2 * channels, channels, 3, 3),
        f"{name}.key_value.bias": (kernels, 2 * channels),
        f"{name}.key_value.squeeze.weight": (memory.attention_hidden, channels, 1, 1),
    }
    shapes |= _conv(f"{name}.key_value.excite", memory.attention_hidden, kernels, 1)
    shapes |= _conv(f"{name}.query", channels, channels, 1) | _conv(f"{name}.difference", channels, channels, 1)
    widths = dict(zip(config.level_sizes_px, config.decoder_widths, strict=True))
    for size_px in memory.levels_px:
        half, level = widths[size_px] // 2, f"{name}.levels.{size_px}"
        shapes |= _conv(f"{level}.inward", half, channels, 1) | _conv(f"{level}.outward", channels, half, 3)
        shapes |= {f"{level}.norm.weight": (half,), f"{level}.norm.bias": (half,)}
    return shapes


def _block(name: str, in_channels: int, out_channels: int, kernel: int = 3) -> _Shapes:
    """A convolution and the BatchNorm after it."""
    return _conv(f"{name}.conv", in_channels, out_channels, kernel) | _norm(f"{name}.norm", out_channels)


def _conv(name: str, in_channels: int, out_channels: int, kernel: int) -> _Shapes:
    return {f"{name}.weight": (out_channels, in_channels, kernel, kernel), f"{name}.bias": (out_channels,)}


def _norm(name: str, channels: int) -> _Shapes:
    """A BatchNorm, without its counter."""
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
