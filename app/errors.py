"""What a user can get wrong with the live app."""

from mcnet.errors import UserError


class AppError(UserError, RuntimeError):
    """Something the app cannot do; the message says what was got, what was expected and what to do."""


class CameraError(AppError):
    """A camera, or what stands in for one, cannot be opened or has stopped giving frames."""


class SinkError(AppError):
    """A virtual camera or a recording cannot be opened or written."""
