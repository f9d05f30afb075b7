"""Errors and warnings whose message is all that a user needs."""


class UserError(Exception):
    """A mistake of the user's, or bad data: shown without a traceback. Each argument is a line."""

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class SlowWarning(UserWarning):
    """Something works, but slowly. Commands show it on the terminal."""


class Misfit(UserError):
    """Settings that do not fit each other; `keys` are their places in the config, the likeliest mistake first."""

    def __init__(self, problem: str, *keys: list):
        super().__init__(problem)
        self.keys = keys
