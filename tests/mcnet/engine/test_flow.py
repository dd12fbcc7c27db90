"""The flow that an engine gives beside its pictures: the plain network's, whatever computes it."""

import importlib.util

import numpy as np
import pytest
import torch

from mcnet import Engine, EngineOptions, Mcnet
from mcnet.arrays import Flow, Keypoints
from mcnet.engine.cuda_graph import CudaGraphBackend
from mcnet.engine.torch_backend import TorchBackend
from tests.mcnet.engine.test_cuda_graph import CPU, compute_again
from tests.mcnet.engine.test_engine import Pictures, tensors
from tests.released import to_tensor
from tests.tolerance import PICTURE, PLACE


def of_the_plain_network(model: Mcnet, source: np.ndarray, driving: Keypoints[np.ndarray]) -> Flow:
    with torch.inference_mode():
        motion = model.generator.motion(model.encode_source(to_tensor(source)), tensors(driving))
    return Flow(motion.deformation.numpy(), motion.occlusion[:, 0].numpy())


def assert_same(got: Flow, expected: Flow) -> None:
    assert got.deformation.shape == expected.deformation.shape
    assert got.occlusion.shape == expected.occlusion.shape
    assert np.abs(got.deformation - expected.deformation).max() <= PLACE
    assert np.abs(got.occlusion - expected.occlusion).max() <= PICTURE


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_every_backend_gives_the_plain_networks_flow(backend: str, tiny: Mcnet, pictures: Pictures) -> None:
    if backend == "openvino" and importlib.util.find_spec("openvino") is None:
        pytest.skip("the extra `openvino` is not installed")
    engine = Engine(tiny, EngineOptions(device="cpu", precision="fp32", backend=backend, warm_up_frames=0))  # type: ignore[arg-type]
    cache = engine.set_source(pictures["source"])
    two = Keypoints(*(np.concatenate((part, part * np.float32(0.9))) for part in cache.keypoints))
    rgb, flow = engine.render_with_flow(two)
    np.testing.assert_array_equal(rgb, engine.render_batch(two))
    assert_same(flow, of_the_plain_network(tiny, pictures["source"], two))
    before = flow.deformation.copy()
    engine.render_with_flow(cache.keypoints)
    np.testing.assert_array_equal(flow.deformation, before)  # nothing that was given is written over


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_real_recording_gives_the_plain_networks_flow(tiny: Mcnet, pictures: Pictures) -> None:
    options = EngineOptions(device="cuda", precision="fp32", backend="cudagraph")
    engine = Engine(tiny, options)
    cache = engine.set_source(pictures["source"])
    for by in (0.0, 0.1):
        pose = Keypoints(cache.keypoints.value + np.float32(by), cache.keypoints.jacobian)
        assert_same(engine.render_with_flow(pose)[1], of_the_plain_network(tiny, pictures["source"], pose))
    assert engine.backend_name == "cudagraph"


def test_recorded_frames_have_a_recording_with_flow_only_if_it_is_asked_for(tiny: Mcnet, pictures: Pictures) -> None:
    recordings = []

    def capture(launch):  # type: ignore[no-untyped-def]
        recordings.append(launch)
        return compute_again(launch)

    torch_backend = TorchBackend(tiny, CPU, torch.float32)
    recorded = CudaGraphBackend(torch_backend, capture)
    source = pictures["source"][None]
    cache = torch_backend.encode(source, torch_backend.detect(source))
    poses = [Keypoints(cache.keypoints.value + np.float32(by), cache.keypoints.jacobian) for by in (0.0, 0.1)]
    assert recorded.render(cache, poses[0]).flow is None
    assert len(recordings) == 1
    flows = [recorded.render(cache, pose, with_flow=True).flow for pose in poses]
    assert len(recordings) == 2
    for pose, flow in zip(poses, flows, strict=True):
        assert flow is not None
        expected = torch_backend.render(cache, pose, with_flow=True).flow
        assert expected is not None
        np.testing.assert_array_equal(flow.deformation, expected.deformation)
        np.testing.assert_array_equal(flow.occlusion, expected.occlusion)
