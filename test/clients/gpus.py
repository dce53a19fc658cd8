"""The GPU objects of every client: each setter that goes to the daemon, its effect, and what a refusal becomes."""

from __future__ import annotations

import os

from zeus.device.exception import ZeusdError
from zeus.device.gpu import get_gpus
from zeus.device.gpu.nvidia import ZeusdNVIDIAGPU

from checks import ON_STUB, SETUP, VERSION, check, daemon_calls, equal, persistence, power_limit_mw, raises, set_faults
from gpu_objects import Gpu

with check(f"get_gpus() gives two GPUs that ask the daemon over {SETUP['transport']}"):
    equal([type(gpu) for gpu in get_gpus().gpus], [ZeusdNVIDIAGPU, ZeusdNVIDIAGPU])

first, second = (Gpu(gpu) for gpu in get_gpus().gpus)

with check("set_power_management_limit sets the limit of its GPU"):
    second.set_power_management_limit(330_000)
    with daemon_calls("SetPowerManagementLimit 0 260000 -> 0", "SetPowerManagementLimit 0 270000 -> 0"):
        first.set_power_management_limit(260_000)
        equal(power_limit_mw(0), 260_000)
        first.set_power_management_limit(270_000)
        equal(power_limit_mw(0), 270_000)
    equal(power_limit_mw(1), 330_000)

with check("non-blocking writes are executed in order before the blocking one that follows"):
    limits = [280_000, 290_000, 310_000, 320_000]
    with daemon_calls(*(f"SetPowerManagementLimit 1 {limit} -> 0" for limit in limits)):
        for limit in limits[:-1]:
            second.set_power_management_limit(limit, block=False)
        second.set_power_management_limit(limits[-1])
    equal(power_limit_mw(1), 320_000)

# The client sends the default limit that it reads locally, from 0.13 on only if the local limit differs from it: where
# the daemon's GPUs are simulated, it has nothing to send.
if ON_STUB or VERSION < (0, 13):
    with check("reset_power_management_limit sets the default limit"):
        with daemon_calls("SetPowerManagementLimit 0 300000 -> 0"):
            first.reset_power_management_limit()
        equal(power_limit_mw(0), 300_000)

with check("set_persistence_mode switches it on and off"):
    for enabled in (True, False, True):
        with daemon_calls(f"SetPersistenceMode 0 {int(enabled)} -> 0"):
            first.set_persistence_mode(enabled, block=True)
        equal(persistence(0), enabled)

with check("set_persistence_mode with the client's own default for block is accepted"):
    first.set_persistence_mode(False)
    first.set_persistence_mode(True, block=True)
    equal(persistence(0), True)

if VERSION >= (0, 16):
    with check("get_persistence_mode is answered by the daemon"):
        first.set_persistence_mode(True)
        equal(first.get_persistence_mode(), True)
        first.set_persistence_mode(False)
        equal(first.get_persistence_mode(), False)

with check("set_gpu_locked_clocks and reset_gpu_locked_clocks"):
    with daemon_calls("SetGpuLockedClocks 0 300 1500 -> 0", "ResetGpuLockedClocks 0 -> 0"):
        first.set_gpu_locked_clocks(300, 1500)
        first.reset_gpu_locked_clocks()

with check("set_memory_locked_clocks and reset_memory_locked_clocks"):
    with daemon_calls("SetMemoryLockedClocks 1 2619 2619 -> 0", "ResetMemoryLockedClocks 1 -> 0"):
        second.set_memory_locked_clocks(2619, 2619)
        second.reset_memory_locked_clocks()

with check("every other setter is accepted without blocking too"):
    with daemon_calls(
        "SetPersistenceMode 1 0 -> 0",
        "SetGpuLockedClocks 1 345 1200 -> 0",
        "ResetGpuLockedClocks 1 -> 0",
        "SetMemoryLockedClocks 1 2619 2619 -> 0",
        "ResetMemoryLockedClocks 1 -> 0",
    ):
        second.set_persistence_mode(False, block=False)
        second.set_gpu_locked_clocks(345, 1200, block=False)
        second.reset_gpu_locked_clocks(block=False)
        second.set_memory_locked_clocks(2619, 2619, block=False)
        second.reset_memory_locked_clocks(block=True)

with check("a limit that the driver refuses raises ZeusdError and changes nothing"):
    first.set_power_management_limit(255_000)
    with raises(ZeusdError, "Failed to set", "NVML error: a supplied argument was invalid"):
        first.set_power_management_limit(5)
    equal(power_limit_mw(0), 255_000)

with check("clocks that the driver refuses raise ZeusdError"):
    with raises(ZeusdError, "Failed to set"):
        first.set_gpu_locked_clocks(1500, 300)
    with raises(ZeusdError, "Failed to set"):
        first.set_memory_locked_clocks(2619, 1000)

with check("a refused non-blocking write raises nothing and changes nothing"):
    first.set_power_management_limit(5, block=False)
    first.set_power_management_limit(265_000, block=True)
    equal(power_limit_mw(0), 265_000)

if ON_STUB:
    texts = {4: "does not have permission", 3: "not available on the target device"}
    for code, told in texts.items():
        with check(f"driver code {code} raises ZeusdError with its text"):
            set_faults(f"nvmlDeviceSetGpuLockedClocks=code:{code};nvmlDeviceResetMemoryLockedClocks=code:{code}")
            with raises(ZeusdError, "Failed to set", told):
                first.set_gpu_locked_clocks(300, 1500)
            with raises(ZeusdError, "Failed to reset", told):
                first.reset_memory_locked_clocks()
    set_faults("")

with check("CUDA_VISIBLE_DEVICES=1 makes the first object control GPU 1"):
    os.environ["CUDA_VISIBLE_DEVICES"] = "1"
    (only,) = type(get_gpus())().gpus
    Gpu(only).set_power_management_limit(275_000)
    equal(power_limit_mw(1), 275_000)
    equal(power_limit_mw(0), 265_000)
