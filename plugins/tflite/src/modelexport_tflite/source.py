from __future__ import annotations


def load(ref, options):
    return None
