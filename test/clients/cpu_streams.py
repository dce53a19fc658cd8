"""CPU power alone, from a daemon whose GPU events have another format than the client: CPU events suit both."""

from __future__ import annotations

from checks import CPUS, DRAM, SETUP, check, equal, eventually
from streaming import streaming_client

with check(f"CPUs deliver samples although GPU events have the other format over {SETUP['transport']}"):
    client = streaming_client(gpu_indices=[])

    def cpus() -> dict:
        readings = client.get_power().get(SETUP["endpoint"])
        return readings.cpu_power_w if readings else {}

    eventually("sample of each CPU", lambda: sorted(cpus()) == CPUS)
    eventually("power of each CPU", lambda: all(reading.cpu_w > 0 for reading in cpus().values()))
    eventually("DRAM power where there is DRAM", lambda: (cpus()[0].dram_w or 0) > 0)
    equal([cpus()[cpu].dram_w is not None for cpu in CPUS], DRAM)
