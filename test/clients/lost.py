"""A GPU that is lost and comes back while a client is at work, on a daemon that has not lost one before."""

from __future__ import annotations

from zeus.device.exception import ZeusdError
from zeus.device.gpu import get_gpus

from checks import (
    SETUP,
    VERSION,
    check,
    daemon_calls,
    equal,
    eventually,
    gpu_is_back,
    power_limit_mw,
    raises,
    set_faults,
)
from gpu_objects import Gpu

STREAMS = VERSION >= (0, 14)

first, second = (Gpu(gpu) for gpu in get_gpus().gpus)

if STREAMS:
    from streaming import has_all_devices, streaming_client

    stream = streaming_client()
    eventually("sample of each device", lambda: has_all_devices(stream))

with check("a lost GPU raises ZeusdError; the other one can still be used"):
    set_faults("nvmlDeviceSetPowerManagementLimit@0=code:15;nvmlDeviceResetMemoryLockedClocks@0=code:15")
    with raises(ZeusdError, "Failed to set", "fell off the bus"):
        first.set_power_management_limit(260_000)
    with raises(ZeusdError, "Failed to reset", "fell off the bus"):
        first.reset_memory_locked_clocks()
    with daemon_calls("SetPowerManagementLimit 1 270000 -> 0"):
        second.set_power_management_limit(270_000)

with check("a lost GPU can be used again when it is back, without a restart of daemon or client"):
    set_faults("field186.0@0=value:62000")
    eventually("GPU 0", lambda: gpu_is_back(0), seconds=10)
    with daemon_calls("SetPowerManagementLimit 0 280000 -> 0", "ResetMemoryLockedClocks 0 -> 0"):
        first.set_power_management_limit(280_000)
        first.reset_memory_locked_clocks()
    equal(power_limit_mw(0), 280_000)

if STREAMS:
    with check("the power stream of a lost GPU goes on when it is back"):
        eventually("changed sample", lambda: stream.get_power()[SETUP["endpoint"]].gpu_power_w == {0: 62.0, 1: 50.001})
