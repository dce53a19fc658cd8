"""A training loop that tunes its GPUs as it goes, with the client's own API. It ends only when it is killed."""

from __future__ import annotations

import itertools
import time

from zeus.device.gpu import get_gpus

from gpu_objects import Gpu

first, second = (Gpu(gpu) for gpu in get_gpus().gpus)
first.set_persistence_mode(True, block=True)

for step in itertools.count():
    first.set_power_management_limit(200_000 + 1_000 * (step % 50))
    first.set_gpu_locked_clocks(300, 900 + 15 * (step % 20), block=False)
    second.set_power_management_limit(350_000 - 1_000 * (step % 50), block=False)
    second.set_memory_locked_clocks(405, 1_593, block=True)
    # Whoever watches knows by this line that all of it has been asked for, and most of it set.
    print(step, flush=True)
    time.sleep(0.005)
