"""What this machine multiplies natively, from the features that Linux tells and the limit that oneDNN is held to."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mcnet.engine import processor


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
    features: tuple[str, ...], limit: str, native: str, variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(
        f"processor\t: 0\nflags\t\t: fpu avx {' '.join(features)}\n\nprocessor\t: 1\n", encoding="utf-8"
    )
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, limit)
    assert processor.native_precisions("cpu", tmp_path) == {"fp32", *native.split()}


@pytest.mark.parametrize(
    ("capability", "half"), [((7, 5), {"fp16"}), ((8, 0), {"fp16", "bf16"}), ((9, 0), {"fp16", "bf16"})]
)
def test_gpus(capability: tuple[int, int], half: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert processor.native_precisions("cuda:0") == {"fp32", *half}


def test_this_cpu_has_a_name(tmp_path: Path) -> None:
    assert processor.cpu_name()
    assert processor.cpu_name(tmp_path)  # without /proc
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor: 0\nmodel name\t: Good CPU @ 3 GHz\n", encoding="utf-8")
    assert processor.cpu_name(tmp_path) == "Good CPU @ 3 GHz"


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="the extra `openvino` is not installed")
@pytest.mark.parametrize(("told", "native"), [(["FP32", "INT8"], "fp32"), (["FP32", "BF16"], "fp32 bf16 int8")])
def test_where_the_system_does_not_tell(told: list[str], native: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("platform.system", lambda: "Windows")
    core = SimpleNamespace(get_property=lambda *_: told)
    monkeypatch.setattr("mcnet.openvino_import.ov", SimpleNamespace(Core=lambda: core))
    assert processor.native_precisions("cpu") == set(native.split())


def test_one_thread_per_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert processor.threads(tmp_path) == 4  # nothing says which threads are of one core
    for number in range(8):
        topology = tmp_path / f"sys/devices/system/cpu/cpu{number}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{number % 2},{number % 2 + 2}\n", encoding="utf-8")
    assert processor.threads(tmp_path) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert processor.threads(tmp_path) == 3
