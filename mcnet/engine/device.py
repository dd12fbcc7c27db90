"""Where and how an engine runs: what may be asked for, what is there, and what is chosen."""

import ctypes
import dataclasses
import functools
import importlib.metadata
import importlib.util
import logging
import platform
from pathlib import Path
from typing import Literal, get_args

from mcnet.engine import processor
from mcnet.errors import UserError
from mcnet.model_file import ModelInfo
from mcnet.packages import lack_of
from mcnet.phrases import offered, phrase

logger = logging.getLogger(__name__)

Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
Runtime = Literal["auto", "torch", "openvino", "cudagraph"]
Dtype = Literal["fp32", "bf16", "fp16"]
Lack = Literal["openvino", "torch for GPUs"]

_MEASURED_PROCESSORS = ("x86_64", "AMD64")
_GPU_NODES = ("dri/renderD*", "dxg")  # the latter in Windows' Linux


class EngineError(UserError, RuntimeError):
    """The engine cannot do what it was asked; the message says what was got, what was expected and what to do.

    Attributes:
        lacks: what would have to be installed for it; None where nothing is known to help.
    """

    def __init__(self, message: str, *, lacks: Lack | None = None) -> None:
        super().__init__(message)
        self.lacks = lacks


@dataclasses.dataclass(frozen=True)
class Way:
    """One way of running a model, with nothing left to choose.

    Attributes:
        device: as `DeviceChoice.device`.
        precision: any but `auto`.
        backend: any but `auto`.
    """

    device: str
    precision: Precision
    backend: Runtime

    def __str__(self) -> str:
        return phrase(
            "{device} in {precision} with {backend}", device=self.device, precision=self.precision, backend=self.backend
        )


@dataclasses.dataclass(frozen=True)
class EngineOptions:
    """How to run a model.

    What is `auto` follows from `measured`, where there is one. Otherwise it follows from what the hardware is known to
    do well; `mcnet.bench.tiers` measures, and remembers.
    """

    device: str = "auto"
    """`auto` (what was measured; else CUDA where torch can use it, else the CPU), `cpu`, `cuda` or `cuda:N`, `gpu` or
    `gpu:N` (Intel's, by OpenVINO), `mps` (Apple's, by torch). If a named device is missing, that is an error; no other
    device is used instead."""
    precision: Precision = "auto"
    """Of the decoder and the memory, with OpenVINO of dense motion's hourglass too. Keypoints, sampling and the
    attention's softmax are always float32. `int8`: the decoder's convolutions in 8 bits, what is left in bf16 or fp32;
    OpenVINO does it, for a model that tells the ranges of its activations (`mcnet convert --int8`). `auto`, unless
    measured: int8 where that can be had and the processor has instructions for it, else bf16 where the device
    multiplies it natively, else fp32."""
    backend: Runtime = "auto"
    """What computes. `auto`, unless measured: on an x86-64 CPU OpenVINO, where it is installed; torch is not even
    imported then. On a GPU `cudagraph`, which records a frame's operations and was measured to be 1.5 (released size)
    to 3.8 times (starter) as fast as torch on an NVIDIA H200, at the same accuracy; batches are torch's. Else torch,
    and torch goes on where any other one fails, with a warning and `Engine.backend_reason`, if it is installed. An
    explicit one is ready from the start, or an error, and so is an explicit precision int8."""
    measured: Way | None = None
    """What was measured to be fastest here, among all that the options above leave open (`mcnet.bench.tiers`)."""
    threads: int | None = None
    """CPU threads of one operation; None: as many as there are cores (`mcnet.engine.processor.threads`). With torch it
    holds for the whole process."""
    keep_memory: bool = True
    """Whether glibc may keep freed memory for the next frame; see `mcnet.allocator`. It holds for the whole
    process."""
    warm_up_frames: int = 2
    """Frames that are animated and thrown away at the start, so that the first real one is not slow. OpenVINO warms up
    in the background by itself; an explicit `cudagraph` takes at least one, to see that it can record."""


@dataclasses.dataclass(frozen=True)
class DeviceChoice:
    """Where and how an engine runs, and why."""

    device: str
    """`cpu`, `cuda:N` (NVIDIA's), `gpu:N` (Intel's, by OpenVINO) or `mps` (Apple's)."""
    dtype: Dtype
    reason: str
    """One plain sentence for people."""
    int8: bool = False
    """Whether OpenVINO computes convolutions in 8 bits, and only what is left in `dtype`."""

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device != "cpu"

    @property
    def kind(self) -> str:
        """Of the device: `cpu`, `cuda`, `gpu` or `mps`."""
        return kind_of(self.device)

    def unsaid(self, why: str) -> str:
        """Why a backend computes; "" where `reason` says so already."""
        return "" if why in self.reason else why

    @classmethod
    def of(cls, options: EngineOptions, model: ModelInfo | None = None) -> "DeviceChoice":
        """Decide.

        Args:
            options: what is asked for.
            model: what is known of the one to be run; without one, `auto` is never 8 bits.

        Raises:
            EngineError: the device that was asked for is not there, or does not know the precision, or int8 is asked
                for and cannot be had.
        """
        if options.precision not in get_args(Precision):
            raise EngineError(
                phrase(
                    "precision: got {precision}, expected one of {allowed}",
                    precision=repr(options.precision),
                    allowed=offered(get_args(Precision), options.precision),
                )
            )
        measured = options.measured
        if options.device != "auto":
            device, why = explicit_device(options.device), phrase("as asked")
        else:
            lack = why_no_cuda(None)
            found = "cpu" if lack else "cuda:0"
            device = found if measured is None else explicit_device(measured.device)
            if why_no_torch():  # what to do about it is said where there is a GPU that would be used
                lack = phrase("torch is not installed")
            on_cpu = phrase("because {lack}", lack=lack) if lack else phrase("as measured")
            reasons = {"cpu": on_cpu, "cuda": phrase("the GPU that torch found")}
            why = reasons.get(kind_of(device), phrase("as measured"))
        wanted = options.precision if measured is None or options.precision != "auto" else measured.precision
        dtype: Dtype
        if wanted == "int8" and kind_of(device) == "gpu":
            dtype = "fp16"
        elif wanted == "auto" or wanted == "int8":
            dtype = "bf16" if "bf16" in processor.native_precisions(device) else "fp32"
        else:
            dtype = wanted
        if device == "cpu" and dtype == "fp16":
            raise EngineError(
                phrase("precision: got fp16 on the CPU, expected fp32, bf16 or int8 there (fp16 is for GPUs)")
            )
        if kind_of(device) == "gpu" and dtype == "bf16":
            raise EngineError(
                phrase("precision: got bf16 on {device}, expected fp32, fp16 or int8 there", device=device)
            )
        if kind_of(device) == "mps" and dtype == "bf16":
            raise EngineError(phrase("precision: got bf16 on {device}, expected fp32 or fp16 there", device=device))
        name = processor.description(threads_of(options)) if device == "cpu" else _gpu_name(device)
        precision: str = dtype
        int8 = False
        if wanted == "int8":
            if lack := why_no_int8(model, options, device):
                lacks = _lacking_openvino(device) if options.backend in ("auto", "openvino") else None
                raise EngineError(phrase("precision: got 'int8', but {lack}", lack=lack), lacks=lacks)
            int8 = True
        elif wanted == "auto":
            if dtype == "bf16":
                precision = phrase("{precision} (which it multiplies natively)", precision=dtype)
            else:
                precision = phrase("{precision} (which it multiplies best)", precision=dtype)
            int8 = (
                model is not None
                and not why_no_int8(model, options, device)
                and "int8" in processor.native_precisions(device)
            )
        if int8:
            precision = phrase("int8 with OpenVINO, else {precision}", precision=precision)
        if wanted != options.precision:
            precision = phrase("{precision} (measured to be the fastest here)", precision=precision)
        reason = phrase(
            "{device} ({name}), {why}, in {precision}", device=device, name=name, why=why, precision=precision
        )
        return cls(device, dtype, reason, int8)


def threads_of(options: EngineOptions) -> int:
    """How many threads an operation gets on a CPU.

    Raises:
        EngineError: fewer than one are asked for.
    """
    if options.threads is not None and options.threads < 1:
        raise EngineError(
            phrase("threads: got {threads}, expected at least 1, or None for all cores", threads=options.threads)
        )
    return options.threads or processor.threads()


def explicit_device(name: str) -> str:
    """The device of that name, as `DeviceChoice.device` has it.

    Raises:
        EngineError: it is none that anything here knows, or it is not there.
    """
    kind, _, number = name.partition(":")
    lone = kind in ("cpu", "mps") and number in ("", "0")
    known = lone or (kind in ("cuda", "gpu") and (not number or number.isdecimal()))
    if not known or name.endswith(":"):
        raise EngineError(
            phrase("device: got {name}, expected auto, cpu, cuda, cuda:N, gpu, gpu:N or mps", name=repr(name))
        )
    if kind == "cpu":
        return "cpu"
    index = int(number or 0)
    lack = why_no_mps() if kind == "mps" else why_no_intel_gpu(index) if kind == "gpu" else why_no_cuda(index)
    if lack:
        raise EngineError(
            phrase(
                "device: got {name}, but {lack}; use --device cpu (or auto), or mend that", name=repr(name), lack=lack
            ),
            lacks=_lacking_for_gpus(kind),
        )
    return kind if kind == "mps" else f"{kind}:{index}"


def _lacking_for_gpus(kind: str) -> Lack | None:
    """What would have to be installed for any GPU of a kind; None where nothing is known to help."""
    if kind == "gpu":
        return _lacking_openvino(kind)
    on_mac = platform.system() == "Darwin"
    lack = why_no_torch() if kind == "mps" else why_no_cuda(0)
    return "torch for GPUs" if lack and on_mac == (kind == "mps") else None


def _lacking_openvino(device: str) -> Lack | None:
    """OpenVINO, where it is what a device lacks."""
    return "openvino" if kind_of(device) in ("cpu", "gpu") and _why_no_openvino_package() else None


def kind_of(device: str) -> str:
    """Of a device, as `DeviceChoice.device` has it: `cpu`, `cuda`, `gpu` or `mps`."""
    return device.partition(":")[0]


def gpus() -> dict[str, str]:
    """The GPUs that torch can use by CUDA: their names for people, by `cuda:N`."""
    if why_no_torch_for_gpus():
        return {}
    import torch

    usable = [index for index in range(torch.cuda.device_count()) if why_no_cuda(index) is None]
    return {f"cuda:{index}": torch.cuda.get_device_name(index) for index in usable}


def other_gpus() -> dict[str, str]:
    """Intel's, by OpenVINO, and Apple's, by torch: their names for people, by `gpu:N` and `mps`."""
    intel = {} if why_no_intel_gpu(0) else {f"gpu:{index}": name for index, name in enumerate(_intel_gpus())}
    return intel | ({} if why_no_mps() else {"mps": _gpu_name("mps")})


def gpu_lacks() -> list[str]:
    """Why GPUs cannot be used: a reason for each that torch finds and cannot use, or one why it finds none."""
    if platform.system() == "Darwin":
        return [lack] if (lack := why_no_mps()) else []
    if lack := why_no_torch_for_gpus():
        return [lack]
    import torch

    return [lack for index in range(max(1, torch.cuda.device_count())) if (lack := why_no_cuda(index)) is not None]


def _gpu_name(device: str) -> str:
    if device == "mps":
        return phrase("the Apple GPU")
    if kind_of(device) == "gpu":
        return _intel_gpus()[int(device.partition(":")[2])]
    import torch

    return torch.cuda.get_device_name(device)


def why_no_torch_for_gpus() -> str | None:
    """Why torch cannot compute on any GPU, as far as can be told without importing it, or None: it may."""
    if lack := why_no_torch():
        return lack
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:  # built by somebody who left that out
        version = phrase("of unknown version")
    if version.endswith("+cpu"):
        return phrase("torch {version} is a build without CUDA", version=version)
    return (
        None
        if _has_nvidia_driver()
        else phrase("torch {version} has no NVIDIA driver to compute with", version=version)
    )


def why_no_torch() -> str | None:
    """Why torch cannot be had, or None where it can."""
    return None if importlib.util.find_spec("torch") else lack_of("torch")


@functools.cache
def _has_nvidia_driver() -> bool:
    """Whether the library that CUDA needs of it is there; loading it takes milliseconds, importing torch a second."""
    try:
        ctypes.CDLL("nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1")
    except OSError:
        return False
    return True


def why_no_intel_gpu(index: int) -> str | None:
    """Why OpenVINO cannot compute on an Intel GPU, or None where it can; it is imported where there may be one."""
    if lack := _why_no_openvino_package():
        return lack
    if platform.system() == "Darwin":
        return phrase("OpenVINO knows no GPU on macOS (device mps is Apple's)")
    if platform.system() == "Linux" and not any(path for name in _GPU_NODES for path in Path("/dev").glob(name)):
        return phrase("this machine shows no GPU that a program may compute with (there is no /dev/dri/renderD*)")
    found = len(_intel_gpus())
    if not found:
        return phrase("OpenVINO finds no Intel GPU: there is none, or its driver for computing (OpenCL) is missing")
    return None if index < found else phrase("there is no Intel GPU {index}: OpenVINO finds {n}", index=index, n=found)


@functools.cache
def _intel_gpus() -> tuple[str, ...]:
    """Their names, as OpenVINO tells them, in its order; none where it, or a driver, is broken."""
    try:
        from mcnet.openvino_import import ov

        core = ov.Core()
        devices = [device for device in core.available_devices if kind_of(device.replace(".", ":")) == "GPU"]
        return tuple(str(core.get_property(device, "FULL_DEVICE_NAME")) for device in devices)
    except Exception as error:  # whatever a driver does: the other devices are there all the same
        logger.warning("OpenVINO cannot be asked for its GPUs: %s: %s", type(error).__name__, error)
        return ()


def why_no_mps() -> str | None:
    """Why torch cannot compute on an Apple GPU, or None where it can; it is imported where there may be one."""
    if platform.system() != "Darwin":
        return phrase("mps is for Apple's GPUs, and this is {system}", system=platform.system())
    if lack := why_no_torch():
        return lack
    import torch

    if not torch.backends.mps.is_built():
        return phrase("torch {version} is a build without Apple's Metal", version=torch.__version__)
    if not torch.backends.mps.is_available():
        return phrase("torch {version} finds no Apple GPU that it can use", version=torch.__version__)
    return None


def why_no_cuda(index: int | None) -> str | None:
    """Why torch cannot compute on a GPU, or None where it can; torch is imported where there may be one."""
    if lack := why_no_torch_for_gpus():
        return lack
    import torch

    if torch.version.cuda is None:
        return phrase("torch {version} is a build without CUDA", version=torch.__version__)
    if not torch.cuda.is_available():
        return phrase(
            "torch {version} (for CUDA {cuda}) finds no usable NVIDIA GPU or driver",
            version=torch.__version__,
            cuda=torch.version.cuda,
        )
    index = index or 0
    if index >= torch.cuda.device_count():
        return phrase(
            "there is no GPU {index}: torch finds {device_count}", index=index, device_count=torch.cuda.device_count()
        )
    major, minor = torch.cuda.get_device_capability(index)
    known = [
        int(arch.removeprefix("sm_").rstrip("af")) for arch in torch.cuda.get_arch_list() if arch.startswith("sm_")
    ]
    if known and 10 * major + minor < min(known):
        name = torch.cuda.get_device_name(index)
        return phrase(
            "{name} (sm_{major}{minor}) is older than what this torch was built for (sm_{known})",
            name=name,
            major=major,
            minor=minor,
            known=min(known),
        )
    return None


def chosen_backend(choice: DeviceChoice, options: EngineOptions) -> tuple[Runtime, str]:
    """What shall compute, and why; "" where it was asked for, be it by a precision that nothing else knows.

    Raises:
        EngineError: what was asked for cannot be had, or nothing here computes.
    """
    wanted, reason = options.backend, ""
    if wanted not in get_args(Runtime):
        raise EngineError(
            phrase(
                "backend: got {wanted}, expected one of {allowed}",
                wanted=repr(wanted),
                allowed=offered(get_args(Runtime), wanted),
            )
        )
    if options.precision == "int8":
        wanted = "openvino"
    elif wanted == "auto":
        wanted, reason = automatic_backend(choice, options.measured)
    if wanted == "cudagraph" and choice.kind != "cuda":
        raise EngineError(
            phrase(
                "backend: got 'cudagraph', but {device} was chosen, expected an NVIDIA GPU",
                device=choice.device,
            )
        )
    if wanted != "openvino":
        require_torch(choice)
    elif not reason and (lack := why_no_openvino(choice.device, measured_only=False)):
        raise EngineError(
            phrase("backend: got 'openvino', but {lack}; use backend torch (or auto), or mend that", lack=lack),
            lacks=_lacking_openvino(choice.device),
        )
    return wanted, reason


def require_torch(choice: DeviceChoice) -> None:
    """See that torch can compute there.

    Raises:
        EngineError: it cannot.
    """
    if choice.kind == "gpu":
        raise EngineError(
            phrase(
                "backend: got 'torch', but {device} was chosen, where OpenVINO alone computes: use backend auto, "
                "or another device",
                device=choice.device,
            )
        )
    if lack := why_no_torch():
        raise EngineError(
            phrase("backend: torch has to compute, but {lack}; or install OpenVINO, and use a CPU", lack=lack),
            lacks=_lacking_openvino(choice.device),
        )


def automatic_backend(choice: DeviceChoice, measured: Way | None) -> tuple[Runtime, str]:
    """What shall compute where no backend is asked for, and why."""
    if measured is not None and measured.backend == "openvino" and why_no_torch():  # there was nothing beside it
        return "openvino", phrase("torch is not installed")
    if measured is not None:
        return measured.backend, phrase("as measured")
    if choice.kind == "cuda":
        return "cudagraph", phrase("recorded frames are the fastest on GPUs")
    if choice.kind == "gpu":
        return "openvino", phrase("it is what computes on Intel GPUs")
    if choice.kind == "mps":
        return "torch", phrase("it is what computes on Apple GPUs")
    if lack := why_no_openvino_first(choice.device):
        return "torch", lack
    return "openvino", phrase("torch is not installed") if why_no_torch() else phrase(
        "it is the fastest on x86-64 CPUs"
    )


def why_no_openvino_first(device: str) -> str | None:
    """Why OpenVINO is not what to take unasked, or None where it is: where it is faster than torch, or all there is."""
    return why_no_openvino(device, measured_only=why_no_torch() is None)


def lacks_openvino(device: str) -> bool:
    """Whether OpenVINO is missing where it would be taken unasked."""
    measured = platform.machine() in _MEASURED_PROCESSORS or why_no_torch() is not None
    return device == "cpu" and measured and _why_no_openvino_package() is not None


def why_no_openvino(device: str, *, measured_only: bool) -> str | None:
    """Why OpenVINO cannot compute there, or None where it can; `measured_only`: and is known to be faster."""
    if kind_of(device) not in ("cpu", "gpu"):
        return phrase("OpenVINO computes on CPUs and Intel GPUs only, and {device} was chosen", device=device)
    if lack := _why_no_openvino_package():
        return lack
    if measured_only and device == "cpu" and platform.machine() not in _MEASURED_PROCESSORS:
        return phrase("OpenVINO was measured on x86-64 CPUs only, and this is {machine}", machine=platform.machine())
    return None


def _why_no_openvino_package() -> str | None:
    return lack_of("openvino") if importlib.util.find_spec("openvino") is None else None


def why_no_int8(model: ModelInfo | None, options: EngineOptions, device: str) -> str | None:
    """Why the decoder cannot be computed in 8 bits, or None where it can; unasked for, only where it was measured."""
    if options.backend not in ("auto", "openvino"):
        return phrase(
            "OpenVINO alone knows it, and backend {backend} was chosen; use backend auto, or bf16 or fp32",
            backend=options.backend,
        )
    if lack := why_no_openvino(device, measured_only=options.precision == "auto"):
        return phrase("{lack}; use device cpu, or another precision", lack=lack) if device != "cpu" else lack
    if model is None or not model.ranges:
        name = phrase("the model") if model is None else phrase("model {name}", name=model.name)
        return phrase(
            "{name} does not tell the ranges of its activations: write a file that does (`mcnet convert --int8`)",
            name=name,
        )
    return None
