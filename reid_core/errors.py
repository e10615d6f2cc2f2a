"""The one error that is the user's to mend."""

import errno


class BadInput(ValueError):
    """Something the user gave can't be used.

    The message is one line: what was expected, what came, what to do. The command line prints it and
    exits with 2; a page shows it.
    """


def from_system(error: OSError) -> OSError | BadInput:
    """What the system says of a file or folder is the user's to mend too."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
        return BadInput(f"no space left for {error.filename or 'a file'}: free some and try again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return BadInput(f"not allowed to use {error.filename or 'a file'}: choose another folder")
    if error.filename is not None:
        return BadInput(f"{error.filename}: {error.strerror}")
    return error
