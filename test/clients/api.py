"""Every method of ZeusdClient (0.15 and later), on a daemon without tokens."""

from __future__ import annotations

import os
import time

from zeus.device.exception import ZeusdError
from zeus.utils.zeusd import ZeusdCapabilityError, ZeusdClient, ZeusdConfig, ZeusdConnectionError, require_capabilities

from checks import (
    CPUS,
    DRAM,
    GPUS,
    ON_STUB,
    SETUP,
    VERSION,
    check,
    daemon_calls,
    energy_of,
    equal,
    persistence,
    power_limit_mw,
    raises,
    true,
)

via = f"over {SETUP['transport']}"

with check(f"discovery and capabilities {via}"):
    client = ZeusdClient()
    equal(client.endpoint, SETUP["socket"] or SETUP["host_port"])
    equal((client.gpu_ids, client.cpu_ids, client.dram_available), (GPUS, CPUS, DRAM))
    equal((client.auth_required, client.auth_error), (False, None))
    equal((client.can_read_gpu, client.can_control_gpu, client.can_read_cpu), (True, True, True))
    require_capabilities(client, read_gpu=True, control_gpu=True, read_cpu=True, gpu_ids=GPUS, cpu_ids=CPUS)
    with raises(ZeusdCapabilityError, "GPU indices [7] not available"):
        require_capabilities(client, gpu_ids=[7])

client = ZeusdClient()

with check("ZEUSD_SOCK_PATH wins over ZEUSD_HOST_PORT, and a dead address is a ZeusdConnectionError"):
    if SETUP["socket"]:
        os.environ["ZEUSD_HOST_PORT"] = "127.0.0.1:1"
        equal(ZeusdConfig.from_env(), ZeusdConfig.uds(SETUP["socket"]))
        equal(ZeusdClient().endpoint, SETUP["socket"])
    with raises(ZeusdConnectionError, "Cannot reach Zeusd"):
        ZeusdClient(ZeusdConfig.tcp("127.0.0.1", 1))

with check("get_time tells the time of day"):
    true(abs(client.get_time() - time.time()) < 2, f"{client.get_time()} is not now")

with check("set_power_limit sets two GPUs at once"):
    for limit in (255_000, 265_000):
        with daemon_calls(f"SetPowerManagementLimit 0 {limit} -> 0", f"SetPowerManagementLimit 1 {limit} -> 0"):
            client.set_power_limit([0, 1], limit)
        equal([power_limit_mw(0), power_limit_mw(1)], [limit, limit])

with check("set_power_limit without blocking, then a blocking write"):
    client.set_power_limit([0, 1], 285_000, block=False)
    client.set_power_limit([1], 295_000)
    client.set_power_limit([0], 305_000)
    equal([power_limit_mw(0), power_limit_mw(1)], [305_000, 295_000])

with check("set_persistence_mode sets two GPUs at once"):
    for enabled in (True, False):
        client.set_persistence_mode([0, 1], enabled)
        equal([persistence(0), persistence(1)], [enabled, enabled])

with check("the four clock writes"):
    gpu_calls = ("SetGpuLockedClocks {} 300 1500 -> 0", "ResetGpuLockedClocks {} -> 0")
    memory_calls = ("SetMemoryLockedClocks {} 2619 2619 -> 0", "ResetMemoryLockedClocks {} -> 0")
    with daemon_calls(*(call.format(gpu) for gpu in (0, 1) for call in gpu_calls + memory_calls)):
        client.set_gpu_locked_clocks([0, 1], 300, 1500)
        client.reset_gpu_locked_clocks([0, 1])
        client.set_mem_locked_clocks([0, 1], 2619, 2619)
        client.reset_mem_locked_clocks([0, 1])

with check("a limit that the driver refuses raises ZeusdError and changes nothing"):
    with raises(ZeusdError, "Failed to set_power_limit", "a supplied argument was invalid"):
        client.set_power_limit([0, 1], 5)
    equal([power_limit_mw(0), power_limit_mw(1)], [305_000, 295_000])

with check("a refused non-blocking write raises nothing and changes nothing"):
    client.set_power_limit([0, 1], 5, block=False)
    client.set_persistence_mode([0, 1], False)  # waits for it
    equal([power_limit_mw(0), power_limit_mw(1)], [305_000, 295_000])

with check("a write to a GPU that does not exist raises ZeusdError and touches no other GPU"):
    for block in (True, False):
        with daemon_calls(), raises(ZeusdError, "GPU index 7 does not exist"):
            client.set_power_limit([0, 7], 260_000, block)
    equal(power_limit_mw(0), 305_000)

with check("get_gpu_power of all and of one GPU"):
    power = client.get_gpu_power()
    equal(sorted(power.power_mw), [0, 1])
    true(abs(power.timestamp_ms / 1000 - time.time()) < 5, f"{power.timestamp_ms} is not now")
    if ON_STUB:
        equal(power.power_mw, {0: 50_000, 1: 50_001})
    true(min(power.power_mw.values()) > 0, f"{power} has no power")
    equal(list(client.get_gpu_power([1]).power_mw), [1])

with check("get_gpu_energy counts up"):
    before = client.get_gpu_energy([0, 1])
    time.sleep(0.2)
    after = client.get_gpu_energy([0, 1])
    equal((sorted(before), sorted(after)), ([0, 1], [0, 1]))
    true(all(after[gpu] > before[gpu] for gpu in (0, 1)), f"{before} then {after}")
    equal(list(client.get_gpu_energy([1])), [1])

with check("reads of a GPU that does not exist raise ZeusdError"):
    with raises(ZeusdError, "Failed to get_gpu_power", "7"):
        client.get_gpu_power([7])
    with raises(ZeusdError, "Failed to get_gpu_energy", "7"):
        client.get_gpu_energy([7])

with check("get_cpu_energy with and without either counter"):
    with energy_of("intel-rapl:0") as package, energy_of("intel-rapl:0/intel-rapl:0:0") as dram:
        both = client.get_cpu_energy(CPUS)
        package_only = client.get_cpu_energy([0], dram=False)[0]
        dram_only = client.get_cpu_energy([0], cpu=False)[0]
        package += [both[0].cpu_energy_uj, package_only.cpu_energy_uj]
        dram += [both[0].dram_energy_uj, dram_only.dram_energy_uj]
    equal([both[cpu].dram_energy_uj is not None for cpu in CPUS], DRAM)
    equal((package_only.dram_energy_uj, dram_only.cpu_energy_uj), (None, None))

with check("get_cpu_power of all and of one CPU"):
    power = client.get_cpu_power().power_mw
    equal(sorted(power), CPUS)
    true(all(reading.cpu_mw > 0 for reading in power.values()) and power[0].dram_mw > 0, f"{power} lacks power")
    equal([power[cpu].dram_mw is not None for cpu in CPUS], DRAM)
    equal(list(client.get_cpu_power([0]).power_mw), [0])

with check("reads of a CPU that does not exist raise ZeusdError"):
    with raises(ZeusdError, "Failed to get_cpu_energy", "7"):
        client.get_cpu_energy([7])
    with raises(ZeusdError, "Failed to get_cpu_power", "7"):
        client.get_cpu_power([7])

if VERSION >= (0, 16):
    with check("discovery names the GPUs"):
        equal([gpu.id for gpu in client.gpus], [0, 1])
        true(all(gpu.name for gpu in client.gpus), f"{client.gpus}")
        if ON_STUB:
            equal([gpu.name for gpu in client.gpus], ["Fake GPU 0", "Fake GPU 1"])

    with check("get_power_limit, get_power_limit_constraints and get_persistence_mode"):
        client.set_power_limit([0], 315_000)
        client.set_power_limit([1], 325_000)
        equal(client.get_power_limit(), {0: 315_000, 1: 325_000})
        equal(client.get_power_limit([1]), {1: 325_000})
        constraints = client.get_power_limit_constraints()
        equal(sorted(constraints), [0, 1])
        true(all(0 < low < 315_000 < high for low, high in constraints.values()), f"{constraints}")
        if ON_STUB:
            equal(constraints, {0: (100_000, 400_000), 1: (100_000, 400_000)})
        client.set_persistence_mode([0], True)
        client.set_persistence_mode([1], False)
        equal(client.get_persistence_mode(), {0: True, 1: False})
        equal(client.get_persistence_mode([1]), {1: False})

    with check("get_cpu_energy of all CPUs"):
        equal(sorted(client.get_cpu_energy()), CPUS)
