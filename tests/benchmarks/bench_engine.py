"""Milliseconds a frame: the plain model against the engine.

    python tests/benchmarks/bench_engine.py [--models starter released] [--device auto] [--rounds 5] [--frames 8]

Every variant lives in a process of its own (allocator settings hold for a process) and runs a few frames in turn with
the others, so that a machine that slows down slows all of them. The last line is JSON.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

VARIANTS = {
    "plain, encoder each frame": {"kind": "plain", "cached": False},
    "plain": {"kind": "plain", "cached": True},
    "engine fp32, allocator as it comes": {"kind": "engine", "precision": "fp32", "keep_memory": False},
    "engine fp32": {"kind": "engine", "precision": "fp32", "keep_memory": True},
    "engine bf16": {"kind": "engine", "precision": "bf16", "keep_memory": True},
}
ON_CUDA = {"engine fp16": {"kind": "engine", "precision": "fp16", "keep_memory": True}}
BASELINE = "plain"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["starter", "released"], help="named configurations")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each variant (default: 5)")
    parser.add_argument("--frames", type=int, default=8, help="frames a turn; a quarter for `released` (default: 8)")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (default: torch's choice)")
    args = parser.parse_args()
    variants = VARIANTS | (ON_CUDA if args.device.startswith("cuda") else {})
    context = multiprocessing.get_context("spawn")
    results: dict[str, Any] = {}
    machine = ""
    for model in args.models:
        frames = max(1, args.frames // 4) if model == "released" else args.frames
        workers = {}
        for variant, settings in variants.items():
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, model, args.device, args.threads, settings))
            process.start()
            theirs.close()
            machine = ours.recv()
            workers[variant] = (process, ours)
        times: dict[str, list[float]] = {variant: [] for variant in variants}
        for _ in range(args.rounds):
            for variant, (_, pipe) in workers.items():
                pipe.send(frames)
                times[variant] += pipe.recv()
        for process, pipe in workers.values():
            pipe.send(0)
            process.join()
        results[model] = report(model, machine, times)
    print(json.dumps({"machine": machine, "unit": "ms a frame", "models": results}))


def report(model: str, machine: str, times_ms: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    base = statistics.median(times_ms[BASELINE])
    print(f"\n{model} on {machine}")
    print(f"{'':36} {'median':>9} {'p95':>9} {'frames/s':>9} {'speed-up':>9}")
    rows = {}
    for variant, values in times_ms.items():
        median = statistics.median(values)
        p95 = sorted(values)[min(len(values) - 1, int(0.95 * len(values)))]
        rows[variant] = {"median": round(median, 2), "p95": round(p95, 2), "speed_up": round(base / median, 2)}
        print(f"{variant:36} {median:9.1f} {p95:9.1f} {1000 / median:9.1f} {base / median:8.2f}x")
    sys.stdout.flush()
    return rows


def work(pipe: Connection, model_name: str, device: str, threads: int | None, variant: dict[str, Any]) -> None:
    """One variant: answers a number of frames with the milliseconds of each, until the number is 0."""
    machine, frame = prepare(model_name, device, threads, variant)
    for _ in range(2):
        frame()
    pipe.send(machine)
    while count := pipe.recv():
        taken = []
        for _ in range(count):
            start = time.perf_counter()
            frame()
            taken.append((time.perf_counter() - start) * 1e3)
        pipe.send(taken)


def prepare(
    model_name: str, device_name: str, threads: int | None, variant: dict[str, Any]
) -> tuple[str, Callable[[], object]]:
    """The machine in words, and what animates one frame from uint8 to uint8 and waits for it."""
    import numpy as np
    import torch

    from mcnet import Engine, EngineOptions, Mcnet, McnetConfig, load_model
    from mcnet.checkpoint import bundled_models
    from mcnet.engine import DeviceChoice

    if threads is not None:
        torch.set_num_threads(threads)
    choice = DeviceChoice.of(EngineOptions(device=device_name, precision="fp32"))
    device = choice.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    machine = (
        f"{device.type} ({name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__})"
    )
    torch.manual_seed(0)
    # Time does not depend on the weights, so those that are not bundled may be random.
    model = load_model(model_name) if model_name in bundled_models() else Mcnet(McnetConfig.named(model_name)).eval()
    size_px = model.config.size_px
    source, driving = np.random.default_rng(0).integers(0, 256, (2, size_px, size_px, 3), np.uint8)
    if variant["kind"] == "engine":
        options = EngineOptions(
            device=device_name, precision=variant["precision"], keep_memory=variant["keep_memory"], threads=threads
        )
        engine = Engine(model, options)
        engine.set_source(source)
        return machine, lambda: engine.animate(driving, relative=False)
    model = model.to(device)

    def upload(rgb: Any) -> torch.Tensor:
        return torch.from_numpy(rgb).to(device).permute(2, 0, 1)[None].float().div(255)

    with torch.inference_mode():
        cache = model.encode_source(upload(source))

    @torch.inference_mode()
    def frame() -> Any:
        used = cache if variant["cached"] else model.generator.encode_source(upload(source), cache.keypoints)
        prediction = model.generator(used, model.keypoint_detector(upload(driving)))
        return (prediction[0].permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy()

    return machine, frame


def cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


if __name__ == "__main__":
    main()
