"""OpenVINO behind the engine's seam. Importing this imports openvino."""

import numpy as np
import openvino as ov
import torch
from numpy.typing import NDArray

from mcnet.backends import Backend, Rendered, Rgb
from mcnet.generator import Mcnet, SourceCache
from mcnet.geometry import Keypoints, invert_2x2
from mcnet.openvino_graph import decoder_graph, detector_graph, motion_graph, table

_PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}


class OpenVinoBackend:
    """Three graphs: keypoints and motion in float32, the decoder with the memory in `dtype`.

    They are apart because OpenVINO takes one precision for a whole graph, and one that rounds keypoints and the places
    that are sampled costs 0.1 to 0.4 of the picture's range at edges. Nothing is kept on disk: the graphs are written
    and compiled within a second, about as long as reading a compiled one back takes.
    """

    name = "openvino"

    def __init__(self, model: Mcnet, torch_backend: Backend, dtype: torch.dtype, threads: int) -> None:
        """Compile.

        Args:
            model: rewritten (`mcnet.rewrites.rewrite`), in float32 on the CPU; not needed afterwards.
            torch_backend: what encodes sources, which is rare.
            dtype: of the decoder; float32 or bfloat16.
            threads: of one frame.

        Raises:
            RuntimeError: OpenVINO cannot.
        """
        self._torch = torch_backend
        core = ov.Core()

        def request(graph: ov.Model, precision: torch.dtype) -> ov.InferRequest:
            settings = {
                "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
                "NUM_STREAMS": 1,
                "INFERENCE_NUM_THREADS": threads,
                "ENABLE_CPU_PINNING": False,  # other threads work on the same cores
            }
            return core.compile_model(graph, "CPU", settings).create_infer_request()

        self._detector = request(detector_graph(model), torch.float32)
        self._motion = request(motion_graph(model), torch.float32)
        self._decoder = request(decoder_graph(model), dtype)
        for port in self._decoder.model_inputs:  # one memory: what motion writes the decoder reads
            self._decoder.set_tensor(port, self._motion.get_tensor(port.any_name))
        self._source: SourceCache | None = None
        for warm_up in (self._detector, self._motion, self._decoder):
            _infer(warm_up)

    def detect(self, rgb: Rgb) -> Keypoints:
        self._detector.get_tensor("rgb").data[:] = rgb
        _infer(self._detector)
        value, jacobian = (
            torch.from_numpy(self._detector.get_tensor(name).data.copy()) for name in ("value", "jacobian")
        )
        return Keypoints(value[None], jacobian.view(1, -1, 2, 2))

    def encode(self, rgb: Rgb) -> SourceCache:
        return self._torch.encode(rgb)

    def render(self, cache: SourceCache, driving: Keypoints) -> Rendered:
        if cache is not self._source:
            self._take(cache)
        affine = _affine(cache.keypoints, driving)
        size_px = cache.picture.shape[-1]
        if not np.isfinite(affine).all():
            return Rendered(np.zeros((size_px, size_px, 3), np.uint8), float("nan"))
        self._motion.get_tensor("affine").data[:] = affine
        self._motion.get_tensor("driving").data[:] = driving.value[0].numpy()
        _infer(self._motion)
        _infer(self._decoder)
        # A ReLU takes NaN to 0 here, so that one inside the decoder may go unseen; no colour is ever made of it.
        witness = self._motion.get_tensor("motion_witness").data + self._decoder.get_tensor("witness").data
        return Rendered(self._decoder.get_tensor("rgb").data.copy(), float(witness))

    def _take(self, cache: SourceCache) -> None:
        """Copy what a source settles into the graphs' inputs."""
        self._source = None  # what is half copied is nobody's
        maps = [*cache.features[:-1], torch.cat((cache.features[-1], cache.picture), dim=1)]
        for feature in maps:
            self._motion.get_tensor(f"table_{feature.shape[-1]}").data[:] = table(feature)
        self._motion.get_tensor("small").data[:] = cache.small.numpy()
        self._motion.get_tensor("heatmaps").data[:] = cache.heatmaps[0].permute(1, 2, 0).numpy()
        if cache.memory is not None:
            responses = self._motion.get_tensor("responses").data
            responses[:] = cache.memory.responses.float().numpy().reshape(responses.shape)
        self._source = cache


def _affine(source: Keypoints, driving: Keypoints) -> NDArray[np.float32]:
    """The sparse motions T_k(z) = A_k z + b_k of paper eq. 1, T_0 the identity, as `motion_graph` wants them."""
    linear = (source.jacobian @ invert_2x2(driving.jacobian))[0]  # (K, 2, 2)
    offset = source.value[0, :, :, None] - linear @ driving.value[0, :, :, None]
    moved = torch.cat((linear, offset), dim=2)  # (K, 2, 3)
    motions = torch.cat((torch.eye(2, 3)[None], moved))
    affine: NDArray[np.float32] = motions.permute(2, 0, 1).flatten(1).numpy()
    return affine


def _infer(request: ov.InferRequest) -> None:
    request.infer(share_outputs=True)  # or it would copy every output
