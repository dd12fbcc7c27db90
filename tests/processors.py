"""What cannot be tried while oneDNN takes the processor for an older one (`ONEDNN_MAX_CPU_ISA`)."""

import os

import pytest
import torch

_LIMIT = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
_WITHOUT_AVX2 = ("SSE41", "AVX")
_WITHOUT_BF16 = (*_WITHOUT_AVX2, "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")


def skip_where_openvino_is_limited(dtype: torch.dtype) -> None:
    """Skip a test that would have OpenVINO compute in a dtype that only the processor knows and not its oneDNN.

    OpenVINO asks the processor itself what it can do, and then its oneDNN refuses: bfloat16 where the limit takes it
    away, and everything where not even AVX2 is left. On a processor that really lacks bfloat16 it computes in float32.
    """
    features = torch.cpu.get_capabilities()
    has_bf16 = features.get("avx512_bf16") or features.get("amx_bf16")
    if _LIMIT in _WITHOUT_AVX2 or (dtype == torch.bfloat16 and has_bf16 and _LIMIT in _WITHOUT_BF16):
        pytest.skip(f"OpenVINO cannot be held to {_LIMIT} in {dtype}: it sees that the processor can do more")
