"""What holds for every test."""

import os

# Before torch is imported: on a machine that is busy otherwise, threads that wait by spinning starve themselves.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
