"""What people can cause, apart from what only we can."""


class UserError(Exception):
    """Base of every error whose message is meant for people: what was got, what was expected, what to do."""
