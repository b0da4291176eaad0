"""The one kind of error that the report's scripts show."""


class ReportError(Exception):
    """Something that the user can mend: one line."""
