"""What the commands report as one sentence instead of a traceback."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def user_errors() -> tuple[type[Exception], ...]:
    """The exceptions whose message is meant for people."""
    from mcnet.checkpoint import CheckpointError
    from mcnet.config import ConfigError
    from mcnet.engine import EngineError
    from mcnet.media.errors import MediaError

    return CheckpointError, ConfigError, EngineError, MediaError
