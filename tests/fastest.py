"""What runs the starter best here is known, for tests and programs of tests that look at something else."""

from mcnet.bench.tiers import Tier, Timing, remember, ways
from mcnet.engine import EngineOptions, open_model
from mcnet.places import measured_file


def know() -> None:
    """Keep it where the commands keep it: the likely best way, which measuring on a busy machine comes to as well."""
    model = open_model("starter")
    for device in ("auto", "cpu"):
        options = EngineOptions(device=device)
        best, *others = ways(model, options)
        tier = Tier(Timing(best, 20.0), tuple(Timing(way, 30.0) for way in others))
        remember(tier, model, options, measured_file())
