"""What a client streams from a daemon whose GPU events have another format: CPUs, whose events suit every client."""

from __future__ import annotations

import threading
import time

from checks import CPUS, DRAM, GPUS, SETUP, VERSION, check, equal, eventually
from streaming import streaming_client

via = f"over {SETUP['transport']}"


def cpus(client) -> dict:
    readings = client.get_power().get(SETUP["endpoint"])
    return readings.cpu_power_w if readings else {}


with check(f"CPUs deliver samples although GPU events have the other format {via}"):
    client = streaming_client(gpu_indices=[])
    eventually("sample of each CPU", lambda: sorted(cpus(client)) == CPUS)
    eventually("power of each CPU", lambda: all(reading.cpu_w > 0 for reading in cpus(client).values()))
    eventually("DRAM power where there is DRAM", lambda: (cpus(client)[0].dram_w or 0) > 0)
    equal([cpus(client)[cpu].dram_w is not None for cpu in CPUS], DRAM)

# 0.14 never looks at what GPUs there are before it streams them.
if VERSION >= (0, 15):
    with check(f"a client that streams everything gets the CPUs, and no thread of it dies {via}"):
        before = threading.active_count()
        client = streaming_client()
        eventually("sample of each CPU", lambda: sorted(cpus(client)) == CPUS)
        time.sleep(0.5)
        equal(client.get_power()[SETUP["endpoint"]].gpu_power_w, {})
        equal(threading.active_count() - before, 1 + bool(GPUS))
