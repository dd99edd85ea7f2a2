"""The exceptions for users: what they can put right (configuration, files, data), and a requested end."""

from __future__ import annotations


class ConfigError(ValueError):
    """A mistake that the user can correct, told as a sentence: what was wrong, where, what would be right.

    The command line prints the sentence without a traceback and exits with status 2.

    Attributes:
        told: another process of the same run prints the sentence.
    """

    told = False


class Terminated(Exception):
    """The process was told to end (SIGTERM) and has saved what it needs to go on; told as a sentence.

    The command line prints it and exits with status 143.
    """
