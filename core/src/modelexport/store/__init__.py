"""Artifacts on disk: the manifest, digests, and how a folder appears in place only when it is finished."""
