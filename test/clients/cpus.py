"""The CPU objects of 0.13 and later: how many there are, which have DRAM, and their energy counters."""

from __future__ import annotations

from zeus.device.cpu import get_cpus
from zeus.device.cpu.rapl import ZeusdRAPLCPU

from checks import CPUS, DRAM, check, energy_of, equal

with check("get_cpus() gives CPUs that ask the daemon"):
    equal([type(cpu) for cpu in get_cpus().cpus], [ZeusdRAPLCPU] * len(CPUS))

with check("supports_get_dram_energy_consumption knows which CPU has DRAM"):
    equal([get_cpus().supports_get_dram_energy_consumption(cpu) for cpu in CPUS], DRAM)

with check("get_total_energy_consumption of a CPU with DRAM tells both counters"):
    with energy_of("intel-rapl:0") as package, energy_of("intel-rapl:0/intel-rapl:0:0") as dram:
        for _ in range(3):
            measured = get_cpus().get_total_energy_consumption(0)
            package.append(measured.cpu_mj * 1000)
            dram.append(measured.dram_mj * 1000)

if 1 in CPUS:
    with check("get_total_energy_consumption of a CPU without DRAM tells one counter"):
        with energy_of("intel-rapl:1") as package:
            measured = get_cpus().get_total_energy_consumption(1)
            package.append(measured.cpu_mj * 1000)
        equal(measured.dram_mj, None)
