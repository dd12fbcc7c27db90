"""What computes here: the processor's name, and which precisions a device multiplies natively."""

import os
import platform
from pathlib import Path

import torch

_LIMITS_WITHOUT_INT8 = {"sse41", "avx", "avx2", "avx512_core"}
_LIMITS_WITHOUT_BF16 = _LIMITS_WITHOUT_INT8 | {"avx2_vnni", "avx2_vnni_2", "avx512_core_vnni"}


def native_precisions(device: torch.device) -> frozenset[str]:
    """Which of `fp32`, `bf16`, `fp16` and `int8` a device has instructions for.

    On a CPU bf16 needs AVX-512 bf16 or AMX: without them torch takes seconds for a frame. int8 needs VNNI or AMX, which
    add up products of bytes in 32 bits; without them OpenVINO adds pairs in 16 bits, and may still be faster than in
    float32 (two AVX2 cores: 33 and 37 ms per frame of the starter). On a GPU nothing here computes in int8.

    torch and OpenVINO both multiply with oneDNN, and a limit in `ONEDNN_MAX_CPU_ISA` takes instructions away from it,
    though the processor has them: what it may not use counts as missing.
    """
    if device.type == "cuda":
        has_bf16 = torch.cuda.get_device_capability(device) >= (8, 0)
        return frozenset({"fp32", "fp16", "bf16"} if has_bf16 else {"fp32", "fp16"})
    features = torch.cpu.get_capabilities()
    limit = (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "").lower()
    native = {"fp32"}
    if limit not in _LIMITS_WITHOUT_BF16 and any(features.get(name) for name in ("avx512_bf16", "amx_bf16")):
        native.add("bf16")
    if limit not in _LIMITS_WITHOUT_INT8 and any(
        features.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8")
    ):
        native.add("int8")
    return frozenset(native)


def cpu_name(root: Path = Path("/")) -> str:
    """The processor's name as its maker gives it, or as much as the system tells.

    Args:
        root: where Linux' /proc lies; tests lay out others.
    """
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def description() -> str:
    """The processor with what torch uses of it: name, cores and threads."""
    return f"{cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
