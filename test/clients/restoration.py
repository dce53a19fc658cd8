"""A training loop that is killed in the middle, on a daemon with --restore-on-exit: all is as before, and soon."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pynvml
from zeus.device.gpu import get_gpus

from checks import check, equal, eventually, persistence, power_limit_mw, true
from gpu_objects import Gpu

TARGET_MS = 200
MOST_MS = 2_000  # the machine that tests this may be busy with other things
SM, MEMORY = 1, 2  # of nvmlClockType_t


def settings() -> list:
    """What both GPUs are set to: the stub's clocks run as high as they are let."""
    handles = [pynvml.nvmlDeviceGetHandleByIndex(gpu) for gpu in (0, 1)]
    clocks = [pynvml.nvmlDeviceGetClockInfo(handle, kind) for handle in handles for kind in (SM, MEMORY)]
    return [power_limit_mw(0), power_limit_mw(1), persistence(0), persistence(1), *clocks]


def ms_to_recover(steps: int, wanted: list) -> float:
    """Kill a training loop after so many steps; how long it took until all was as it should be."""
    command = [sys.executable, Path(__file__).with_name("training.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as training:
        for line in training.stdout:
            if line.strip() == str(steps):  # the oldest client logs there, too
                break
        changed = [now for now, before in zip(settings(), wanted) if now != before]
        equal(len(changed), 5)  # two limits, one persistence mode, the SM clock of one and the memory clock of the other
        training.kill()
        killed = time.monotonic()
        eventually("restoration", lambda: settings() == wanted, MOST_MS / 1000, pause=0.001)
        return 1000 * (time.monotonic() - killed)


def kill_often(what: str, wanted: list) -> None:
    with check(what):
        took = [ms_to_recover(steps, wanted) for steps in (3, 10, 25)]
        print(f"killed in the middle: all back after {', '.join(f'{ms:.0f}' for ms in took)} ms (target {TARGET_MS} ms)")
        true(max(took) < MOST_MS, f"it took {max(took):.0f} ms")


power_limit_mw(0)  # opens NVML
before = settings()
kill_often("a training loop that is killed leaves nothing behind", before)

Gpu(get_gpus().gpus[0]).set_power_management_limit(280_000)
kill_often("a training loop that is killed leaves what a living client has set", [280_000, *before[1:]])
