"""What goes wrong with Content Credentials."""

from mcnet.errors import UserError


class DisclosureError(UserError, ValueError):
    """A file could not be signed or read; it is as it was. The message says why and what to do."""
