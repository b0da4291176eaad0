"""Files that appear complete or not at all."""

import os
import tempfile


def write_whole(path, content):
    """`content`: text or bytes."""
    mode = "wb" if isinstance(content, bytes) else "w"
    with tempfile.NamedTemporaryFile(mode, dir=path.parent, delete=False) as file:
        file.write(content)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
