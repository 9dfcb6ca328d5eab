"""What made the shipped models and is no part of the paper; nothing outside the command line imports it."""
