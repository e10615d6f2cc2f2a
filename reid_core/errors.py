"""The one error that is the user's to mend."""


class BadInput(ValueError):
    """Something the user gave can't be used.

    The message is one line: what was expected, what came, what to do. The command line prints it and
    exits with 2; a page shows it.
    """
