"""The one error that is the user's to mend, and how a few others are known."""

import errno
import re
from pathlib import Path
from tempfile import TemporaryFile

# What torch, CUDA's libraries, oneDNN and the system say where memory is short; not all of them with a
# class of its own.
SHORT = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|not enough memory|ALLOC_FAILED"
    r"|could not create a (primitive|memory)|can't start new thread|failed to map segment",
    re.IGNORECASE,
)
SAID_OF_MEMORY = RuntimeError, ImportError, OSError, UserWarning

# What only some ask for, so that a machine may lack it: the module and the package that brings it.
OPTIONAL = {
    "faiss": "faiss-cpu",
    "h5py": "h5py",
    "numba": "numba",
    "onnx": "onnx",
    "onnx_ir": "onnxscript",
    "onnxruntime": "onnxruntime",
    "onnxscript": "onnxscript",
    "sklearn": "scikit-learn",
    "submitit": "submitit",
    "umap": "umap-learn",
}


class BadInput(ValueError):
    """Something the user gave can't be used.

    The message is one line: what was expected, what came, what to do. The command line prints it and
    exits with 2; a page shows it.
    """


def from_system(error: OSError) -> OSError | BadInput:
    """What the system says of a file or folder is the user's to mend too."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
        return BadInput(f"no space left for {error.filename or 'a file'}: free some and try again")
    if error.errno == errno.EFBIG:
        return BadInput(
            f"no space left for {error.filename or 'a file'}: a file may not be so large here (a limit "
            "of ulimit -f or of the file system)"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return BadInput(
            f"not allowed to use {error.filename or 'a file'}: allow this user to, or choose another folder"
        )
    if error.filename is not None:
        return BadInput(f"{error.filename}: {error.strerror}")
    return error


def check_writable(out: Path) -> None:
    """Raises BadInput, or OSError with its name, where a file can't be written there."""
    if out.is_dir():
        raise BadInput(f"--out {out} is a folder: name a file")
    if not out.absolute().parent.is_dir():
        raise BadInput(f"no folder {out.absolute().parent} to write {out.name} into")
    try:
        with TemporaryFile(dir=out.absolute().parent):
            pass
    except OSError as error:
        error.filename = str(out)
        raise


def is_short_of_memory(error: BaseException) -> bool:
    """Whether the memory that was asked for could not be had, the processor's or a GPU's."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if not isinstance(error, SAID_OF_MEMORY):
        return False
    of = error.__context__  # a library that could not be loaded says only there why
    return bool(SHORT.search(str(error))) or (of is not None and is_short_of_memory(of))


def as_told(error: BaseException) -> BaseException:
    """What the user can mend as BadInput, from the system's, a lack of memory and of a package too;
    anything else as it is."""
    if isinstance(error, ModuleNotFoundError):
        package = OPTIONAL.get((error.name or "").split(".")[0])
        if package:
            return BadInput(f"this needs {package}, which is not installed: pip install {package}")
    if is_short_of_memory(error):
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        return BadInput(
            f"out of memory ({said[:200]}): close other programs, or ask for less at a time (smaller "
            "batches, smaller images, a smaller model)"
        )
    return from_system(error) if isinstance(error, OSError) else error
