"""Targets, sources and extensions: what is installed, how it is loaded, and how its hooks are called."""
