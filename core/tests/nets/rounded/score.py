"""Scores of a session, good and bad."""

import numpy as np


def accuracy(session):
    x = np.random.default_rng(5).uniform(-1, 1, (40, 6)).astype(np.float32)
    return float(session({"x": x[:8]})["scores"].std())


def raises(session):
    raise KeyError("labels.csv")


def words(session):
    return "good"


TABLE = {}
