"""`.pt2` files of others: looked at whole before torch opens them, which runs code of theirs in several places."""

from __future__ import annotations

from .check import check_program
from .load import load_program

__all__ = ["check_program", "load_program"]
