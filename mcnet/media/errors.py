"""What a user can get wrong with pictures, films and faces."""


class MediaError(ValueError):
    """A picture, film or place that cannot be used; the message says what was got, what was expected, what to do."""
