"""Control from outside: a small server on this computer alone, and the `mcnet-avatar ctl` that talks to it."""
