"""`mcnet bench`: how fast a model is here, how far that is from the best, and how exact."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from mcnet.commands.arguments import seconds, whole_number

if TYPE_CHECKING:
    from mcnet.bench.measure import Report


def add_parser(commands: Any) -> None:
    """Add the subcommand to the parser's."""
    parser = commands.add_parser(
        "bench",
        help="measure how fast a model is on this machine",
        description="Measure every way of computing a model on a device: milliseconds per frame from uint8 to uint8, "
        "the least that this machine could take, the error against the plain float32 network, and where the time goes. "
        "Each variant lives in a process of its own and runs a few frames in turn with the others, so that the ratios "
        "hold on a noisy machine. What the device only emulates is left out and named. Progress goes to standard "
        "error; the last line of the output is JSON.",
    )
    parser.add_argument(
        "--model",
        nargs="+",
        default=["starter"],
        help="bundled names, files, or names of configurations (random weights: time is the same) (default: starter)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--threads", type=whole_number(1, 1024), help="CPU threads (default: torch's choice)")
    parser.add_argument("--rounds", type=whole_number(1), default=5, help="turns of each variant, at most (default: 5)")
    parser.add_argument("--frames", type=whole_number(1), default=8, help="frames per turn, at most (default: 8)")
    parser.add_argument(
        "--seconds",
        type=seconds(),
        default=150,
        metavar="S",
        help="no further round is begun that would end later; there is always one (default: 150 for each model)",
    )
    parser.add_argument(
        "--variants",
        nargs="+",
        default=[],
        metavar="NAME",
        help="only these, and also what the device only emulates; the plain network is always measured",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, and print tables and JSON."""
    from mcnet.bench.measure import measure

    reports = []
    for model in args.model:
        report = measure(
            model,
            args.device,
            threads=args.threads,
            rounds=args.rounds,
            frames=args.frames,
            seconds=args.seconds,
            only=args.variants,
            progress=_tell,
        )
        print(as_text(report), flush=True)
        reports.append(as_table(report))
    print(json.dumps({"unit": "ms per frame", "models": reports}))
    return 0


def _tell(line: str) -> None:
    print(f"mcnet bench: {line}", file=sys.stderr, flush=True)


def as_text(report: "Report") -> str:
    """Tables for people."""
    plain, fast = report.macs.plain, report.macs.rewritten
    rates = ", ".join(f"{value:.0f} in {name}" for name, value in report.rates.gmac_per_s.items())
    base = next(row.ms.median for row in report.rows if row.variant.name == "plain")
    width = max(len(row.variant.name) for row in report.rows)
    lines = [
        f"\n{report.model} on {report.machine}",
        f"load {report.load[0]:.1f} before, {report.load[1]:.1f} at the end (each worker counts while it runs)",
        f"GMAC per frame: {plain.total + report.macs.source:.2f} with the encoder, {plain.total:.2f} plain, "
        f"{fast.total:.2f} after the exact rewrites (detector {fast.detector:.2f}, motion {fast.motion:.2f}, "
        f"memory {fast.memory:.2f}, decoder {fast.decoder:.2f})",
        f"measured here: {rates} GMAC/s, copies {report.rates.copy_gb_per_s:.1f} GB/s",
        "",
        f"{'':{width}}  {'median':>8} {'p95':>8} {'frames/s':>8} {'speed-up':>8} {'floor':>7} {'over it':>7}  "
        "error: largest  mean   PSNR",
    ]
    for row in report.rows:
        floor = f"{'-':>7} {'-':>7}"
        if row.floor is not None:
            floor = f"{row.floor.total_ms:7.2f} {row.ms.median / row.floor.total_ms:6.2f}x"
        error = f"{row.accuracy.largest:14d}  {row.accuracy.mean:.4f} {row.accuracy.psnr_db:5.1f}"
        lines.append(
            f"{row.variant.name:{width}}  {row.ms.median:8.2f} {row.ms.p95:8.2f} {1000 / row.ms.median:8.1f} "
            f"{base / row.ms.median:7.2f}x {floor}  "
            f"{error if report.real else '      (no trained model on real faces)'}"
        )
    lines += [f"{row.variant.name}: {row.emulated}" for row in report.rows if row.emulated]
    lines += [f"{name}: not measured: {why}" for name, why in report.left_out.items()]
    lines.append(f"\nerrors in steps of 255 on {report.pictures}, against plain; PSNR in dB of the worst frame")
    for row in report.rows:
        if row.stages_ms:
            stages = ", ".join(f"{name} {taken:.2f}" for name, taken in row.stages_ms.items())
            lines.append(f"{row.variant.name:{width}}  {stages} ms")
    return "\n".join(lines)


def as_table(report: "Report") -> dict[str, Any]:
    """Plain values for JSON."""
    rows = {
        row.variant.name: {
            "median": row.ms.median,
            "p95": row.ms.p95,
            "frames": row.frames,
            "floor": None if row.floor is None else row.floor._asdict(),
            "error": (row.accuracy._asdict() | {"psnr_db": _finite(row.accuracy.psnr_db)}) if report.real else None,
            "stages": row.stages_ms,
            "emulated": row.emulated,
        }
        for row in report.rows
    }
    macs = {"plain": report.macs.plain._asdict(), "rewritten": report.macs.rewritten._asdict()}
    return {
        "model": report.model,
        "machine": report.machine,
        "load": report.load,
        "pictures": report.pictures,
        "gmac": macs | {"source": report.macs.source},
        "rates": report.rates._asdict(),
        "variants": rows,
        "left_out": report.left_out,
    }


def _finite(value: float) -> float | None:
    return value if value < float("inf") else None
