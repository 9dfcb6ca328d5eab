"""What goes wrong with files of events."""


class EventsError(ValueError):
    """A file of events or scores cannot be read; the message names the file, the line and what to change."""
