"""OpenVINO behind the engine's seam. Importing this imports openvino."""

from collections.abc import Callable

import numpy as np
import torch

from mcnet.arrays import Rgb
from mcnet.engine.backends import Backend, Rendered
from mcnet.engine.openvino_graph import (
    decoder_graph,
    detector_graph,
    mask_graph,
    settled_of_memory,
    sparse_graph,
    tables,
    warp_graph,
)
from mcnet.engine.quantization import Ranges
from mcnet.engine.rewrites import affine_motions
from mcnet.generator import Mcnet, SourceCache
from mcnet.geometry import Keypoints
from mcnet.openvino_import import ov

_PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}


class OpenVinoBackend:
    """Graphs one after the other: detector (of models that detect), and for a frame sparse, mask, warp and decoder.

    They are apart because OpenVINO takes one precision for a whole graph. Keypoints and every place that is sampled are
    float32: rounding these is seen in the picture. Dense motion's hourglass, the memory and the decoder are in `dtype`,
    but for what is float32 anyway: the attention's logits and softmax, and the last blend. Nothing is kept on disk: the
    graphs are written and compiled within a second, about as long as reading compiled ones back takes.
    """

    name = "openvino"

    def __init__(
        self,
        model: Mcnet,
        torch_backend: Backend,
        dtype: torch.dtype,
        threads: int,
        ranges: Ranges | None = None,
        *,
        detects: bool = True,
    ) -> None:
        """Compile.

        Args:
            model: rewritten (`mcnet.engine.rewrites.rewrite`), in float32 on the CPU; not needed afterwards.
            torch_backend: what encodes sources, which is rare, and computes batches.
            dtype: of the two graphs that may be rounded; float32 or bfloat16.
            threads: of one frame.
            ranges: of activations, to compute the decoder's convolutions in 8 bits; None: in `dtype`.
            detects: whether keypoints will be detected.

        Raises:
            RuntimeError: OpenVINO cannot compile the network.
        """
        self._torch = torch_backend
        self._config = model.config
        core = ov.Core()

        def request(graph: ov.Model, precision: torch.dtype) -> ov.InferRequest:
            settings = {
                "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
                "NUM_STREAMS": 1,
                "INFERENCE_NUM_THREADS": threads,
                "ENABLE_CPU_PINNING": False,  # other threads work on the same cores
            }
            return core.compile_model(graph, "CPU", settings).create_infer_request()

        self._detector = request(detector_graph(model), torch.float32) if detects else None
        self._sparse = request(sparse_graph(model), torch.float32)
        self._mask = request(mask_graph(model), dtype)
        self._warp = request(warp_graph(model), torch.float32)
        self._decoder = request(decoder_graph(model, ranges), dtype)
        # One memory: what a graph writes the next one reads.
        _join(self._sparse, self._mask)
        _join(self._mask, self._warp)
        _join(self._warp, self._decoder)
        self._warp.set_tensor("affine", self._sparse.get_tensor("affine"))
        self._source: SourceCache | None = None
        _infer(self._sparse, self._mask, self._warp, self._decoder)
        if self._detector is not None:
            _infer(self._detector)

    def detect(self, rgb: Rgb) -> Keypoints:
        if len(rgb) > 1:
            return self._torch.detect(rgb)
        assert self._detector is not None
        self._detector.get_tensor("rgb").data[:] = rgb[0]
        _infer(self._detector)
        value, jacobian = (
            torch.from_numpy(self._detector.get_tensor(name).data.copy()) for name in ("value", "jacobian")
        )
        return Keypoints(value[None], jacobian.view(1, -1, 2, 2))

    def encode(self, rgb: Rgb, keypoints: Keypoints) -> SourceCache:
        return self._torch.encode(rgb, keypoints)

    def render(self, cache: SourceCache, driving: Keypoints) -> Rendered:
        if len(driving.value) > 1:
            return self._torch.render(cache, driving)
        if cache is not self._source:
            self._take(cache)
        affine = affine_motions(cache.keypoints, driving)[0].permute(2, 0, 1).flatten(1).numpy()
        size_px = cache.picture.shape[-1]
        if not np.isfinite(affine).all():
            return Rendered(np.zeros((1, size_px, size_px, 3), np.uint8), float("nan"))
        self._sparse.get_tensor("affine").data[:] = affine
        self._sparse.get_tensor("driving").data[:] = driving.value[0].numpy()
        for run in self.stages().values():
            run()
        # A ReLU, and rounding to 8 bits, take NaN to a number here, so that one inside the decoder may go unseen; no
        # colour is ever made of it.
        witness = self._warp.get_tensor("motion_witness").data + self._decoder.get_tensor("witness").data
        return Rendered(self._decoder.get_tensor("rgb").data[None].copy(), float(witness))

    def stages(self) -> dict[str, Callable[[], None]]:
        """What a frame is made of, in order; to be timed one by one."""
        return {
            "motion": lambda: _infer(self._sparse, self._mask),
            "warp": lambda: _infer(self._warp),
            "memory, decode, pack": lambda: _infer(self._decoder),
        }

    def _take(self, cache: SourceCache) -> None:
        """Copy what a source settles into the graphs' inputs."""
        self._source = None  # what is half copied is nobody's
        for name, rows in tables(self._config, cache).items():
            self._warp.get_tensor(name).data[:] = rows
        self._sparse.get_tensor("small").data[:] = cache.small.numpy()
        self._sparse.get_tensor("heatmaps").data[:] = cache.heatmaps[0].permute(1, 2, 0).numpy()
        if self._config.memory.levels_px:
            name, shape = settled_of_memory(self._config)
            settled = cache.keypoints.value if cache.memory is None else cache.memory.responses
            self._decoder.get_tensor(name).data[:] = settled.float().numpy().reshape(shape)
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
