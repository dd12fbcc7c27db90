"""What a user can get wrong with pictures, videos and faces."""

from mcnet.errors import UserError


class MediaError(UserError, ValueError):
    """A picture, video or place that cannot be used; the message says what was got, what was expected, what to do."""
