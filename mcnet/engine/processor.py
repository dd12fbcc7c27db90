"""What computes here: the processor's name and cores, and which precisions it multiplies natively."""

import os
import platform
from pathlib import Path

from mcnet.phrases import phrase

_LIMITS_WITHOUT_INT8 = {"sse41", "avx", "avx2", "avx512_core"}
_LIMITS_WITHOUT_BF16 = _LIMITS_WITHOUT_INT8 | {"avx2_vnni", "avx2_vnni_2", "avx512_core_vnni"}


def native_precisions(device: str, root: Path = Path("/")) -> frozenset[str]:
    """Which of `fp32`, `bf16`, `fp16` and `int8` a device has instructions for.

    On a CPU bf16 needs AVX-512 bf16 or AMX: without them torch takes seconds for a frame. int8 needs VNNI or AMX, which
    add up products of bytes in 32 bits; without them OpenVINO adds pairs in 16 bits, and may still be faster than in
    float32 (two AVX2 cores: 33 and 37 ms per frame of the starter). On a GPU of NVIDIA's
    or Apple's nothing here computes in int8; of an Intel GPU OpenVINO tells.

    torch and OpenVINO both multiply with oneDNN, and a limit in `ONEDNN_MAX_CPU_ISA` takes instructions away from it,
    though the processor has them: what it may not use counts as missing.

    Args:
        device: `cpu`, `cuda:N`, `gpu:N` or `mps`.
        root: where Linux' /proc lies; tests lay out others.
    """
    if device == "mps":
        return frozenset({"fp32", "fp16"})
    if device.startswith("gpu:"):
        from mcnet.openvino_import import ov

        told = ov.Core().get_property(f"GPU.{device.partition(':')[2]}", "OPTIMIZATION_CAPABILITIES")
        return frozenset({"fp32", "fp16"} | ({"int8"} if "INT8" in told else set()))
    if device != "cpu":
        import torch

        has_bf16 = torch.cuda.get_device_capability(device) >= (8, 0)
        return frozenset({"fp32", "fp16", "bf16"} if has_bf16 else {"fp32", "fp16"})
    features = _features(root)
    limit = (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "").lower()
    native = {"fp32"}
    if limit not in _LIMITS_WITHOUT_BF16 and features & {"avx512_bf16", "amx_bf16"}:
        native.add("bf16")
    if limit not in _LIMITS_WITHOUT_INT8 and features & {"avx512_vnni", "avx_vnni", "amx_int8"}:
        native.add("int8")
    return frozenset(native)


def _features(root: Path) -> set[str]:
    """Of the processor, by the names that Linux has for them.

    Elsewhere OpenVINO knows of bf16, and a processor that multiplies that multiplies bytes, too. One that has
    instructions for bytes alone is taken for one without: what is measured tells (`mcnet.bench.tiers`).
    """
    if platform.system() == "Linux":
        return set(next(iter(_cpuinfo("flags", root)), "").split())
    try:
        from mcnet.openvino_import import ov
    except ImportError:
        return set()
    told = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return {"avx512_bf16", "avx512_vnni"} if "BF16" in told else set()


def cpu_name(root: Path = Path("/")) -> str:
    """The processor's name as its maker gives it, or as much as the system tells.

    Args:
        root: where Linux' /proc lies; tests lay out others.
    """
    named = iter(_cpuinfo("model name", root))
    return next(named, "") or platform.processor() or platform.machine()


def threads(root: Path = Path("/")) -> int:
    """How many threads an operation gets where nobody says: as many as there are cores that this process may use.

    `OMP_NUM_THREADS` counts, as for torch. Two threads of one core share what multiplies, so that a core counts once
    where the system tells which threads are of one (Linux).
    """
    if (asked := os.environ.get("OMP_NUM_THREADS", "")).isdigit() and int(asked) > 0:
        return int(asked)
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    folder = root / "sys/devices/system/cpu"
    cores = {_read(folder / f"cpu{number}/topology/thread_siblings_list") or str(number) for number in usable}
    return len(cores)


def description(threads: int) -> str:
    """The processor with what is used of it: name, cores and threads."""
    return phrase("{name}, {cores} cores, {threads} threads", name=cpu_name(), cores=os.cpu_count(), threads=threads)


def _cpuinfo(name: str, root: Path) -> list[str]:
    """What /proc/cpuinfo says under that name, for each processor."""
    lines = _read(root / "proc/cpuinfo").splitlines()
    return [line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
