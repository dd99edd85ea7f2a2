"""The one exception for what a user can put right: configuration, files, data, limits."""

from __future__ import annotations


class ConfigError(ValueError):
    """A mistake that the user can correct, told as a sentence: what was wrong, where, what would be right.

    The command line prints the sentence without a traceback and exits with status 2.
    """
