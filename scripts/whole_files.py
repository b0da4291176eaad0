"""Files that appear complete or not at all."""

import contextlib
import errno
import os
import tempfile


def write_whole(path, content):
    """`content`: text, which becomes UTF-8, or bytes. An OSError names `path`; a folder is refused."""
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    data = content if isinstance(content, bytes) else content.encode("utf-8")
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            temporary = file.name
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from None  # not the temporary
        raise
