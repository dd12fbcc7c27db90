"""What holds for every test."""

import os

# Before torch is imported, and as the `mcnet` command does: on a busy machine threads that spin long starve themselves.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
