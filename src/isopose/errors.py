"""The one error a user is meant to read."""


class UserError(Exception):
    """Something the user can put right: one line naming the file, what is wrong, what was expected, what to do."""
