"""What a check of a file of others ends with."""

from __future__ import annotations


class Refused(ValueError):
    """Something in the file that might run code, or that is read in several ways: what it is, in a few words."""


class Damaged(ValueError):
    """The file is none of its kind, or not whole: what is wrong with it, in a few words."""
