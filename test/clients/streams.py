"""PowerStreamingClient (0.14 and later): samples of two GPUs and two CPUs, over the transport of this run."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time

from checks import CPUS, DRAM, ON_STUB, SETUP, check, equal, eventually, raises, set_faults, true
from streaming import has_all_devices, streaming_client

via = f"over {SETUP['transport']}"
client = streaming_client()


def readings():
    return client.get_power()[SETUP["endpoint"]]


def threads_alive() -> int:
    return sum("-power-stream-" in thread.name for thread in threading.enumerate())


with check(f"two GPUs and every CPU deliver samples {via}"):
    eventually("sample of each device", lambda: has_all_devices(client))
    if ON_STUB:
        equal(readings().gpu_power_w, {0: 50.0, 1: 50.001})
    true(min(readings().gpu_power_w.values()) > 0, f"{readings()}")

with check(f"CPU samples have power, and DRAM power where there is DRAM {via}"):
    eventually("CPU power", lambda: all(reading.cpu_w > 0 for reading in readings().cpu_power_w.values()))
    eventually("DRAM power", lambda: (readings().cpu_power_w[0].dram_w or 0) > 0)
    equal([readings().cpu_power_w[cpu].dram_w is not None for cpu in CPUS], DRAM)

with check(f"samples carry the present time {via}"):
    eventually("fresh sample", lambda: abs(readings().timestamp_s - time.time()) < 2)

if ON_STUB:
    with check(f"a change of one GPU's power arrives, and the other GPU stays {via}"):
        set_faults("field186.0@1=value:61000")
        eventually("changed sample", lambda: readings().gpu_power_w == {0: 50.0, 1: 61.0})
        set_faults("")
        eventually("sample as before", lambda: readings().gpu_power_w == {0: 50.0, 1: 50.001})

with check(f"iterating yields a snapshot per update {via}"):
    for snapshot in itertools.islice(client, 3):
        equal(sorted(snapshot[SETUP["endpoint"]].gpu_power_w), [0, 1])


async def take_three() -> list:
    taken = []
    async for snapshot in client:
        taken.append(snapshot)
        if len(taken) == 3:
            return taken


with check(f"iterating asynchronously too {via}"):
    equal(len(asyncio.run(take_three())), 3)

with check(f"chosen indices only: GPU 1 without CPUs {via}"):
    chosen = streaming_client(gpu_indices=[1], cpu_indices=[])
    got = eventually("sample", lambda: chosen.get_power().get(SETUP["endpoint"]))
    equal((list(got.gpu_power_w), got.cpu_power_w), ([1], {}))

with check(f"chosen indices in any order: GPUs 1,0 and every CPU {via}"):
    chosen_all = streaming_client(gpu_indices=[1, 0], cpu_indices=CPUS[::-1])
    eventually("sample of each device", lambda: has_all_devices(chosen_all))

with check(f"indices that do not exist are refused {via}"):
    with raises(ValueError, "[7]"):
        streaming_client(gpu_indices=[0, 7])
    with raises(ValueError, "[7]"):
        streaming_client(gpu_indices=[], cpu_indices=[7])

with check(f"no stream thread has died {via}"):
    # All devices twice (GPUs and CPUs each), GPU 1 alone, and all chosen again.
    equal(threads_alive(), 5)
