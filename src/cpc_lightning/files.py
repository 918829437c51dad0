"""Writing files so that a crash leaves the old one or the new one, never half of one.

Nothing here imports the rest of the library.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file whose content takes `path`'s place when the block ends well, and is dropped when it does not.

    The content goes to a new file in the same folder (a rename is atomic only within one file system), reaches the
    disk, and is then renamed. A symbolic link is followed, so that the file it points to is replaced, not the link.

    Raises:
        OSError: if the folder is absent or cannot be written to, or if `path` is a folder.
    """
    target = Path(os.path.realpath(path))
    # The short random name fits where the target's own name has no room for a suffix; "x" refuses to reuse a file and,
    # unlike mkstemp, leaves the permissions to the user's umask.
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
