"""Trains the bundled model: one command that starts, resumes and exports, on whatever device is there.

    python -m training.recipes.starter train DATA OUT.safetensors --run-dir RUN --max-minutes 9

Call it again until it says that all steps are done. Each call goes on from RUN's checkpoint. Where that stayed behind
with a machine, `--resume-from MODEL` goes on from the model file of an earlier call: same place in the schedule, fresh
optimiser. A new run begins with the weights of the bundled model. On cores that others use as well, OMP_NUM_THREADS=1
is several times as fast as threads that wait for one another.

To a machine on which nothing can be installed, with Python, torch, NumPy and OpenCV:

    python -m training.recipes.starter travel FOLDER CLIPS       # here: all that is needed, at most 55 MB
    sh FOLDER/run.sh MINUTES                                     # there: leaves FOLDER/out
    python -m training.recipes.starter resume FOLDER/out OUT.safetensors --run-dir RUN    # here

`train FOLDER/data OUT.safetensors --run-dir RUN` then goes on with it, and `travel ... --weights OUT.safetensors` takes
it to the next machine.
"""

import sys
from collections.abc import Sequence

from training.recipes import journey, recipe

STARTER = recipe.Recipe(
    name="starter",
    about=__doc__.splitlines()[0],
    # Batches and steps that two cores can carry in two hours.
    on_a_cpu=(
        *journey.ON_A_CPU,
        "motion.steps=1200",
        "full.steps=450",
        "full.warmup_steps=20",
        # So few pairs would spoil what is done.
        "full.motion_rate=0.2",
        "full.encoder_rate=0.0",
        "optim.ema_decay=0.98",
        "log.every=20",
        "log.sheet_every=200",
        "log.checkpoint_every=50",
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the recipe; returns the exit status."""
    return recipe.main(STARTER, arguments)


if __name__ == "__main__":
    sys.exit(main())
