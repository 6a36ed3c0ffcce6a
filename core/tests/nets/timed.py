"""Models for benchmarks: one that sleeps, one that takes memory, one that writes down where it ran."""

import json
import os
import time

import torch
from torch import nn


class Line(nn.Module):
    def __init__(self, pause=0.0, hoard=0, log=None):
        super().__init__()
        torch.manual_seed(0)
        self.line = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 8))
        self.pause, self.hoard, self.log = pause, hoard, log

    def forward(self, x):
        if self.pause:
            time.sleep(self.pause)
        if self.hoard:
            torch.ones(self.hoard // 4)
        if self.log:
            with open(self.log, "w") as file:
                json.dump(
                    {
                        "threads": torch.get_num_threads(),
                        "omp": os.environ["OMP_NUM_THREADS"],
                        "pid": os.getpid(),
                        "training": self.training,
                        "grad": torch.is_grad_enabled(),
                    },
                    file,
                )
        return self.line(x)


def line():
    return Line()


def sleepy():
    return Line(pause=0.005)


def hoarder():
    return Line(hoard=300_000_000)


def logged():
    return Line(log=os.environ["BENCH_LOG"])


def other():
    return nn.Linear(3, 3), (torch.zeros(2, 3),)
