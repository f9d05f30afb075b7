"""What a user did wrong, as errors whose message is all that they need."""


class UserError(Exception):
    """A mistake of the user's, or bad data: the message is all they need, no traceback. Each argument is a line."""

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class SlowWarning(UserWarning):
    """What works, and takes longer than it would elsewhere. Commands show it on the terminal."""


class Misfit(UserError):
    """Settings that do not fit each other: `keys` are theirs, the one most likely wrong first."""

    def __init__(self, problem: str, *keys: list):
        super().__init__(problem)
        self.keys = keys
