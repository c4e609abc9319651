"""What goes wrong, said in one sentence together with the remedy."""


class Trouble(Exception):
    """Ends the command: the user reads the text, never a traceback."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}: {remedy}")
        self.what = what
        self.remedy = remedy
