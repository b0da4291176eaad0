"""The one kind of error that the report's scripts show, and how they end with it."""

import sys


class ReportError(Exception):
    """Something that the user can mend: one line."""


def end_with_one_line(script, main):
    """Runs `main`; what the user can mend is one line that names `script`, and status 2."""
    try:
        main()
    except ReportError as error:
        what = str(error)
    except OSError as error:
        what = f"{error.filename}: cannot be written: {error.strerror.lower()}"
    else:
        return
    print(f"{script}: error: {what}", file=sys.stderr)
    sys.exit(2)
