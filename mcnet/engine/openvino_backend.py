"""OpenVINO behind the engine's seam. Importing this imports openvino, and no torch."""

from collections.abc import Callable

import numpy as np

from mcnet.arrays import Array, ConditionedMemory, Flow, Keypoints, Rgb, SourceCache
from mcnet.engine.backends import Rendered
from mcnet.engine.openvino_graph import (
    decoder_graph,
    detector_graph,
    encoder_graph,
    flow_graph,
    keypoints_graph,
    mask_graph,
    settled_of_memory,
    sparse_graph,
    tables,
    warp_graph,
)
from mcnet.engine.weights import Weights
from mcnet.model_file import ModelFile, refuse_not_finite
from mcnet.openvino_import import ov
from mcnet.pose import affine_motions

_PRECISIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVinoBackend:
    """Graphs one after the other: detector, and for a frame sparse, mask, warp and decoder; for a source its own two.

    They are apart because OpenVINO takes one precision for a whole graph. Keypoints, everything of a source and every
    place that is sampled are float32: rounding these is seen in the picture. Dense motion's hourglass, the memory and
    the decoder are in `dtype`, but for what is float32 anyway: the attention's logits and softmax, and the last blend.
    Nothing is kept on disk: the graphs are written and compiled within a second, about as long as reading compiled ones
    back takes.
    """

    name = "openvino"

    def __init__(self, model: ModelFile, dtype: str, threads: int, *, int8: bool = False, device: str = "cpu") -> None:
        """Write the graphs and compile them.

        Args:
            model: whose weights are those of its configuration; not changed, and read once more when the first source
                is encoded.
            dtype: of the two graphs that may be rounded: `fp32` or `bf16`; on a GPU `fp32` or `fp16`.
            threads: of one frame, on a CPU.
            int8: compute the decoder's convolutions in 8 bits, on the model's ranges.
            device: `cpu`, or `gpu:N`, an Intel GPU.

        Raises:
            CheckpointError: a weight is not finite: a ReLU here takes NaN to 0, and nobody would see it.
            RuntimeError: OpenVINO cannot compile the network.
        """
        self._model = model
        self._config = config = model.config
        self._core = ov.Core()
        self._device = "CPU" if device == "cpu" else f"GPU.{device.partition(':')[2]}"
        self._settings: dict[str, object] = {"NUM_STREAMS": 1}  # a frame at a time, in one queue
        if device == "cpu":
            self._settings |= {
                "INFERENCE_NUM_THREADS": threads,
                "ENABLE_CPU_PINNING": False,  # other threads work on the same cores
            }
        else:
            self._settings |= {"PERFORMANCE_HINT": "LATENCY"}
        refuse_not_finite(model.weights, f"model {model.info.name}")
        weights = Weights(model.weights)
        self._detector = self._request(detector_graph(config, weights)) if model.detects else None
        self._sparse = self._request(sparse_graph(config))
        self._mask = self._request(mask_graph(config, weights, in_float32=dtype == "fp32"), dtype)
        self._warp = self._request(warp_graph(config))
        self._decoder = self._request(decoder_graph(config, weights, model.info.ranges if int8 else None), dtype)
        self._encoder: ov.InferRequest | None = None
        self._keypoints: ov.InferRequest | None = None
        self._flow: ov.InferRequest | None = None
        # One memory: what a graph writes the next one reads.
        _join(self._sparse, self._mask)
        _join(self._mask, self._warp)
        _join(self._warp, self._decoder)
        self._warp.set_tensor("affine", self._sparse.get_tensor("affine"))
        self._source: SourceCache[Array] | None = None
        _infer(self._sparse, self._mask, self._warp, self._decoder)
        if self._detector is not None:
            _infer(self._detector)

    def detect(self, rgb: Rgb) -> Keypoints[Array]:
        found = [self._detect(one) for one in rgb]
        return Keypoints(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def _detect(self, rgb: Rgb) -> Keypoints[Array]:
        assert self._detector is not None
        self._detector.get_tensor("rgb").data[:] = rgb
        _infer(self._detector)
        value, jacobian = (self._detector.get_tensor(name).data.copy() for name in ("value", "jacobian"))
        return Keypoints(value[None], jacobian.reshape(1, -1, 2, 2))

    def encode(self, rgb: Rgb, keypoints: Keypoints[Array]) -> SourceCache[Array]:
        if self._encoder is None or self._keypoints is None:  # a portrait of which a cache was kept needs none
            weights = Weights(self._model.weights)
            self._encoder = self._request(encoder_graph(self._config, weights))
            self._keypoints = self._request(keypoints_graph(self._config, weights))
        self._encoder.get_tensor("rgb").data[:] = rgb[0]
        self._keypoints.get_tensor("points").data[:] = keypoints.value[0]
        _infer(self._encoder, self._keypoints)
        memory: ConditionedMemory[Array] | None = None
        if any(port.any_name == "memory" for port in self._keypoints.model_outputs):
            maps, responses = (self._keypoints.get_tensor(name).data.copy() for name in ("memory", "responses"))
            memory = ConditionedMemory(maps, responses[None])
        return SourceCache(
            picture=rgb.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255),
            small=self._encoder.get_tensor("small").data.copy(),
            keypoints=keypoints,
            heatmaps=np.ascontiguousarray(self._keypoints.get_tensor("heatmaps").data.transpose(2, 0, 1)[None]),
            features=tuple(
                self._encoder.get_tensor(f"feature_{side}").data.copy() for side in self._config.level_sizes_px
            ),
            memory=memory,
        )

    def render(self, cache: SourceCache[Array], driving: Keypoints[Array], *, with_flow: bool = False) -> Rendered:
        if cache is not self._source:
            self._take(cache)
        frames, flows = [], []
        for parts in zip(driving.value[:, None], driving.jacobian[:, None], strict=True):
            frames.append(self._render(cache, Keypoints(*parts)))
            if with_flow:
                flows.append(self._flow_now())
        flow = Flow(*(np.stack(parts) for parts in zip(*flows, strict=True))) if with_flow else None
        return Rendered(np.stack([rgb for rgb, _ in frames]), float(sum(witness for _, witness in frames)), flow)

    def _flow_now(self) -> tuple[Array, Array]:
        """Of the frame that was rendered last, made from what its graphs left."""
        if self._flow is None:
            self._flow = self._request(flow_graph(self._config))
            _join(self._mask, self._flow)
            self._flow.set_tensor("affine", self._sparse.get_tensor("affine"))
        _infer(self._flow)
        maps = self._flow.get_tensor("flow").data
        return maps[:2].transpose(1, 2, 0).copy(), maps[2].copy()

    def _render(self, cache: SourceCache[Array], driving: Keypoints[Array]) -> tuple[Rgb, float]:
        with np.errstate(all="ignore"):  # of keypoints that are not finite, or lie nowhere; looked at right below
            affine = affine_motions(cache.keypoints, driving)[0].transpose(2, 0, 1).reshape(3, -1)
        size_px = self._config.size_px
        if not np.isfinite(affine).all():
            return np.zeros((size_px, size_px, 3), np.uint8), float("nan")
        self._sparse.get_tensor("affine").data[:] = affine
        self._sparse.get_tensor("driving").data[:] = driving.value[0]
        for run in self.stages().values():
            run()
        # A ReLU, and rounding to 8 bits, take NaN to a number here, so that one inside the decoder may go unseen; no
        # colour is ever made of it.
        witness = self._warp.get_tensor("motion_witness").data + self._decoder.get_tensor("witness").data
        return self._decoder.get_tensor("rgb").data.copy(), float(witness)

    def stages(self) -> dict[str, Callable[[], None]]:
        """What a frame is made of, in order; to be timed one by one."""
        return {
            "motion": lambda: _infer(self._sparse, self._mask),
            "warp": lambda: _infer(self._warp),
            "memory, decode, pack": lambda: _infer(self._decoder),
        }

    def _request(self, graph: ov.Model, precision: str = "fp32") -> ov.InferRequest:
        settings = self._settings | {"INFERENCE_PRECISION_HINT": _PRECISIONS[precision]}
        if precision != "fp32" and settings.get("INFERENCE_NUM_THREADS") == 1:
            # With one thread OpenVINO fuses the memory's attention into one kernel that rounds logits and softmax to
            # bf16: errors of up to 28 steps of 255 instead of 6. Without it int8 takes 9 % longer, bf16 as long.
            settings["SNIPPETS_MODE"] = "DISABLE"
        return self._core.compile_model(graph, self._device, settings).create_infer_request()

    def _take(self, cache: SourceCache[Array]) -> None:
        """Copy what a source settles into the graphs' inputs."""
        self._source = None  # what is half copied is nobody's
        for name, rows in tables(self._config, cache).items():
            self._warp.get_tensor(name).data[:] = rows
        self._warp.get_tensor("picture").data[:] = cache.picture
        self._sparse.get_tensor("small").data[:] = cache.small
        self._sparse.get_tensor("heatmaps").data[:] = cache.heatmaps[0].transpose(1, 2, 0)
        if self._config.memory.levels_px:
            name, shape = settled_of_memory(self._config)
            settled = cache.keypoints.value if cache.memory is None else cache.memory.responses
            self._decoder.get_tensor(name).data[:] = settled.reshape(shape)
        self._source = cache


def _infer(*requests: ov.InferRequest) -> None:
    for request in requests:
        request.infer(share_outputs=True)  # or it would copy every output


def _join(first: ov.InferRequest, second: ov.InferRequest) -> None:
    """Have every input of the second that the first gives under the same name read from there."""
    given = {port.any_name for port in first.model_outputs}
    for port in second.model_inputs:
        if port.any_name in given:
            second.set_tensor(port, first.get_tensor(port.any_name))
