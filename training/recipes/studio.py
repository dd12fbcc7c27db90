"""Trains the model for GPUs at 512 px, with the commands of `training.recipes.starter`.

    mcnet-train prepare VIDEOS DATA --size 512
    python -m training.recipes.studio train DATA OUT.safetensors --run-dir RUN --max-minutes 60

It learns from what is larger than 256 px: `prepare --size 512` leaves out faces that would have to be enlarged. A new
run begins with the bundled model's detector and motion. It is meant for a GPU; without one it only shows that it works.
"""

import sys
from collections.abc import Sequence

from training.recipes import journey, recipe

STUDIO = recipe.Recipe(
    name="studio",
    about=__doc__.splitlines()[0],
    on_a_cpu=(
        *journey.ON_A_CPU,
        "full.batch=1",
        "full.steps=100",
        "full.motion_rate=0.2",
        "log.every=10",
        "log.checkpoint_every=10",
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the recipe; returns the exit status."""
    return recipe.main(STUDIO, arguments)


if __name__ == "__main__":
    sys.exit(main())
