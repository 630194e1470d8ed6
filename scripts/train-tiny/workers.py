"""Training on a few CPU cores without barriers: every worker process runs one thread, has an optimiser of its own and
updates the same weights in shared memory as it goes (Hogwild, Recht et al. 2011).  A busy neighbour then slows one
worker down instead of all of them at every operator.  On a GPU one worker does everything.
"""

import math, os, time
import torch
import torch.multiprocessing as mp

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def share(module):
    """Weights where every worker sees them, laid out for convolutions."""
    module = module.to(DEVICE, memory_format=torch.channels_last)
    return module.share_memory() if DEVICE == "cpu" else module


def launch(function, workers, *args):
    """Runs function(rank, *args) in every worker and waits; an error in one ends all."""
    if DEVICE == "cuda":
        return function(0, *args)
    mp.spawn(_start, (function, args), nprocs=workers)


def _start(rank, function, args):
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    function(rank, *args)


class Clock:
    """Minutes spent, over all runs; the schedule follows it.  Of a long gap (SIGSTOP, suspend) half a minute counts."""

    def __init__(self, spent, minutes):
        self.total, self.minutes, self.last, self.origin = spent, minutes, time.time(), 0.0

    @property
    def spent(self):
        now = time.time()
        self.total += min(now - self.last, 30) / 60
        self.last = now
        return self.total

    @property
    def share(self):
        return min(1.0, (self.spent - self.origin) / max(self.minutes - self.origin, 1e-9))

    def cosine(self, lr, warm, step):
        return lr * min(1, (step + 1) / warm) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.share)))


def save(state, path):
    torch.save(state, path + ".tmp")
    os.replace(path + ".tmp", path)


def load(path):
    return torch.load(path, weights_only=True, map_location="cpu") if os.path.exists(path) else None
