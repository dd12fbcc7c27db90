"""What this machine multiplies natively, from the features that torch tells and the limit that oneDNN is held to."""

from pathlib import Path

import pytest
import torch

from mcnet.engine import processor

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("features", "limit", "native"),
    [
        ((), "", ""),
        (("avx2",), "", ""),
        (("avx2", "avx_vnni"), "", "int8"),
        (("avx512_f", "avx512_vnni"), "", "int8"),
        (("avx512_f", "avx512_vnni", "avx512_bf16"), "", "bf16 int8"),
        (("avx512_f", "amx_int8", "amx_bf16"), "", "bf16 int8"),
        (("avx512_vnni", "avx512_bf16"), "AVX2", ""),
        (("avx512_vnni", "avx512_bf16"), "sse41", ""),
        (("avx512_vnni", "avx512_bf16"), "AVX512_CORE", ""),
        (("avx512_vnni", "avx512_bf16"), "AVX512_CORE_VNNI", "int8"),
        (("avx_vnni",), "AVX2_VNNI", "int8"),
        (("avx512_vnni", "avx512_bf16"), "AVX512_CORE_BF16", "bf16 int8"),
        (("avx512_vnni", "avx512_bf16"), "DEFAULT", "bf16 int8"),
    ],
)
@pytest.mark.parametrize("variable", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_cpus(
    features: tuple[str, ...], limit: str, native: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(features, True))
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, limit)
    assert processor.native_precisions(CPU) == {"fp32", *native.split()}


@pytest.mark.parametrize(
    ("capability", "half"), [((7, 5), {"fp16"}), ((8, 0), {"fp16", "bf16"}), ((9, 0), {"fp16", "bf16"})]
)
def test_gpus(capability: tuple[int, int], half: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert processor.native_precisions(torch.device("cuda:0")) == {"fp32", *half}


def test_this_cpu_has_a_name(tmp_path: Path) -> None:
    assert processor.cpu_name()
    assert processor.cpu_name(tmp_path)  # without /proc
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor: 0\nmodel name\t: Good CPU @ 3 GHz\n")
    assert processor.cpu_name(tmp_path) == "Good CPU @ 3 GHz"
