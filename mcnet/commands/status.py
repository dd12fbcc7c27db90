"""Exit statuses that the commands share."""

INTERRUPTED = 130
"""After Ctrl-C, as shells have it."""
