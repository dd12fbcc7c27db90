"""Entry of a training that has travelled: `python -m training.recipes.there FOLDER MINUTES`, as `run.sh` calls it."""

import sys

from training.recipes.plain_safetensors import stand_in

if __name__ == "__main__":
    stand_in()  # before anything asks for the library
    from training.recipes.journey import main_there

    sys.exit(main_there(sys.argv[1:]))
