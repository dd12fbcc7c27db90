"""What an evaluation can only measure with something that is installed or fetched apart: each is there or says why not.

Pictures are (H, W, 3) uint8 RGB.
"""

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mcnet.arrays import Rgb
from mcnet.media.expressions import Mesh
from mcnet.pictures import to_picture
from training.evaluate.iris import IrisNetwork

ALEXNET_URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
MIN_FID_PICTURES = 2048
"""Inception's features have 2048 numbers: the covariance of fewer pictures has no full rank."""
_EVAL_EXTRA = "pip install 'mcnet-avatar[eval]'"
_Judge = TypeVar("_Judge")


class JudgeMissingError(Exception):
    """A figure that cannot be had here; the message says why and what would help."""


class Ssim:
    """Structural similarity: Gaussian windows of 11 pixels, sigma 1.5, mean over colours (torchmetrics)."""

    def __init__(self) -> None:
        image = _import("torchmetrics.functional.image", _EVAL_EXTRA)
        self._ssim: Callable[..., Tensor] = image.structural_similarity_index_measure

    def __call__(self, one: Rgb, other: Rgb) -> float:
        """1 for equal pictures."""
        # In float64: variances are small differences of large numbers, and float32 misses 1e-4 in even regions.
        return float(self._ssim(_batch(one).double(), _batch(other).double(), data_range=1.0))


class AlexNet(nn.Module):
    """AlexNet's five maps after each ReLU (ImageNet); state dict keys as torchvision's `features`."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised RGB -> five maps."""
        maps = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                maps.append(x)
        return maps


class Lpips:
    """Learned perceptual distance, version 0.1 with AlexNet. Written here since torchmetrics' needs torchvision.

    AlexNet's weights are fetched once by torch hub; the weights of its channels come with torchmetrics.
    """

    def __init__(self, device: torch.device) -> None:
        torchmetrics = _import("torchmetrics", _EVAL_EXTRA)
        heads = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models" / "alex.pth"
        try:
            stored = torch.load(heads, map_location=device, weights_only=True)
            self._heads = [stored[f"lin{level}.model.1.weight"] for level in range(5)]
        except (OSError, KeyError) as error:
            raise JudgeMissingError(f"this torchmetrics does not hold {heads.name} as 1.9 does ({error})") from error
        try:
            state = torch.hub.load_state_dict_from_url(ALEXNET_URL, map_location="cpu", check_hash=True)
        except (OSError, RuntimeError) as error:
            raise JudgeMissingError(
                f"AlexNet's weights cannot be fetched from {ALEXNET_URL} ({error}); put that file into the folder "
                "hub/checkpoints of TORCH_HOME"
            ) from error
        self._alexnet = AlexNet()
        self._alexnet.load_state_dict({key: value for key, value in state.items() if key.startswith("features.")})
        self._alexnet.to(device).eval()
        self._device = device
        self._shift = torch.tensor([-0.030, -0.088, -0.188], device=device)[:, None, None]
        self._scale = torch.tensor([0.458, 0.448, 0.450], device=device)[:, None, None]

    @torch.inference_mode()
    def __call__(self, one: Rgb, other: Rgb) -> float:
        """0 for equal pictures."""
        total = 0.0
        for a, b, head in zip(self._maps(one), self._maps(other), self._heads, strict=True):
            total += float(F.conv2d((a - b).square(), head).mean())
        return total

    def _maps(self, rgb: Rgb) -> list[Tensor]:
        maps = self._alexnet((_batch(rgb).to(self._device) * 2 - 1 - self._shift) / self._scale)
        return [each / torch.sqrt(1e-8 + each.square().sum(1, keepdim=True)) for each in maps]


class Identity:
    """Who somebody is, as dlib's 128 numbers (trained on faces; offline, from face_recognition_models).

    The face is aligned by five points of the mesh. Two pictures of one person lie within 0.6 of one another.
    """

    _POINTS = (263, 362, 33, 133, 2)  # dlib's order: left eye outside and inside, right eye likewise, below the nose

    def __init__(self) -> None:
        self._dlib = _import("dlib", _EVAL_EXTRA)
        # Looked up, not imported: its __init__ needs a part of setuptools that is gone.
        found = importlib.util.find_spec("face_recognition_models")
        if found is None or not found.submodule_search_locations:
            raise JudgeMissingError(f"face_recognition_models is not installed: {_EVAL_EXTRA}")
        path = Path(next(iter(found.submodule_search_locations))) / "models/dlib_face_recognition_resnet_model_v1.dat"
        try:
            self._network = self._dlib.face_recognition_model_v1(str(path))
        except RuntimeError as error:
            raise JudgeMissingError(f"dlib cannot read {path.name} ({error}); install it again") from error

    def embed(self, rgb: Rgb, mesh: Mesh) -> NDArray[np.float64]:
        """(128,)."""
        low, high = mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)
        box = self._dlib.rectangle(*(round(float(value)) for value in (*low, *high)))
        points = [self._dlib.point(*(round(float(value)) for value in mesh[point, :2])) for point in self._POINTS]
        shape = self._dlib.full_object_detection(box, points)
        return np.array(self._network.compute_face_descriptor(np.ascontiguousarray(rgb), shape), np.float64)


class PaperLandmarks:
    """The 68 points that the paper measures by (face-alignment); slow without a GPU."""

    def __init__(self, device: torch.device) -> None:
        package = _import("face_alignment", _EVAL_EXTRA)
        try:
            self._finder = package.FaceAlignment(
                package.LandmarksType.TWO_D, device=str(device), flip_input=False, compile=False
            )
        except (OSError, RuntimeError) as error:
            raise JudgeMissingError(f"face-alignment cannot fetch or read its weights ({error})") from error

    def find(self, rgb: Rgb) -> NDArray[np.float32] | None:
        """(68, 2) xy in pixels of the first face, or None."""
        faces = self._finder.get_landmarks(rgb)
        return np.asarray(faces[0], np.float32)[:, :2] if faces else None


class Inception:
    """FID's features: 2048 numbers per picture (torch-fidelity, which needs torchvision and fetches weights)."""

    SIZE = 2048

    def __init__(self, device: torch.device, pictures: int) -> None:
        if pictures < MIN_FID_PICTURES:
            raise JudgeMissingError(
                f"it needs {MIN_FID_PICTURES} pictures at least, got {pictures}; --frames-per-clip all gives more"
            )
        module = _import("torch_fidelity.feature_extractor_inceptionv3", "pip install torch-fidelity torchvision")
        try:
            network = module.FeatureExtractorInceptionV3("inception-v3-compat", [str(self.SIZE)])
        except (OSError, RuntimeError) as error:
            raise JudgeMissingError(f"Inception's weights cannot be fetched ({error})") from error
        self._network = cast(nn.Module, network).to(device).eval()
        self._device = device

    @torch.inference_mode()
    def __call__(self, rgb: Rgb) -> NDArray[np.float64]:
        """(2048,)."""
        picture = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].to(self._device)
        features: Tensor = self._network(picture)[0][0]
        return features.double().cpu().numpy()


@dataclasses.dataclass(frozen=True)
class MetricNetworks:
    """Those that are there.

    Attributes:
        notes: a sentence for each figure that is left out.
    """

    ssim: Ssim | None
    lpips: Lpips | None
    identity: Identity | None
    paper: PaperLandmarks | None
    inception: Inception | None
    iris: IrisNetwork | None
    notes: tuple[str, ...]


def open_metric_networks(device: torch.device, pictures: int, *, paper_landmarks: bool) -> MetricNetworks:
    """Open what can be had.

    Args:
        device: where networks run.
        pictures: how many FID would compare.
        paper_landmarks: whether face-alignment is wanted.
    """
    notes: list[str] = []

    def attempt(what: str, make: Callable[[], _Judge]) -> _Judge | None:
        try:
            return make()
        except JudgeMissingError as error:
            notes.append(f"{what} is left out: {error}")
            return None

    def paper() -> PaperLandmarks:
        if not paper_landmarks:
            raise JudgeMissingError("it was not asked for (--paper-landmarks)")
        return PaperLandmarks(device)

    return MetricNetworks(
        ssim=attempt("SSIM", Ssim),
        lpips=attempt("LPIPS", lambda: Lpips(device)),
        identity=attempt("Identity (AED, CSIM, leakage)", Identity),
        paper=attempt("AKD by face-alignment, the paper's variant,", paper),
        inception=attempt("FID", lambda: Inception(device, pictures)),
        iris=IrisNetwork(),
        notes=tuple(notes),
    )


def _import(name: str, remedy: str) -> Any:
    """A module that may be missing, or be there and not load."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        missing = isinstance(error, ModuleNotFoundError) and error.name == package
        why = "is not installed" if missing else f"does not load ({error})"
        raise JudgeMissingError(f"{package} {why}: {remedy}") from error


def _batch(rgb: Rgb) -> Tensor:
    """(1, 3, H, W) float32 in [0, 1]."""
    return to_picture(torch.from_numpy(np.ascontiguousarray(rgb))[None])
