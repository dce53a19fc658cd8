"""A daemon with a signing key: right, missing, foreign and too narrow tokens. Clients before 0.15 cannot send one."""

from __future__ import annotations

import os

from zeus.device.cpu import get_cpus
from zeus.device.exception import ZeusdError
from zeus.device.gpu import get_gpus
from zeus.device.gpu.common import ZeusGPUInitError

from checks import CPUS, SETUP, VERSION, check, equal, eventually, power_limit_mw, raises, true

via = f"over {SETUP['transport']}"
limit_mw = 265_000 if power_limit_mw(0) != 265_000 else 285_000


def use(token: str | None) -> None:
    os.environ.pop("ZEUSD_TOKEN", None)
    if token:
        os.environ["ZEUSD_TOKEN"] = SETUP["tokens"][token]


def without_tokens() -> None:
    """A client that knows no tokens is refused in its own way."""
    before = power_limit_mw(0)
    with check(f"a client that cannot send a token gets ZeusdError {via}"):
        gpu = get_gpus().gpus[0]
        set_limit = gpu.setPowerManagementLimit if VERSION < (0, 13) else gpu.set_power_management_limit
        with raises(ZeusdError, "Failed to set", "Authentication required"):
            set_limit(limit_mw)
        equal(power_limit_mw(0), before)


def with_tokens() -> None:
    from zeus.utils.zeusd import ZeusdAuthError, ZeusdCapabilityError, ZeusdClient, require_capabilities

    from streaming import has_all_devices, streaming_client

    with check(f"without a token: discovery works, everything else is refused {via}"):
        use(None)
        client = ZeusdClient()
        equal((client.auth_required, client.gpu_ids, client.cpu_ids), (True, [0, 1], CPUS))
        equal((client.can_read_gpu, client.can_control_gpu, client.can_read_cpu), (False, False, False))
        client.get_time()
        with raises(ZeusdAuthError, "no token was provided"):
            require_capabilities(client, read_gpu=True)
        with raises(ZeusdError, "Failed to get_gpu_power", "Authentication required"):
            client.get_gpu_power()
        with raises(ZeusdError, "Failed to set_power_limit", "Authentication required"):
            client.set_power_limit([0], limit_mw)
        with raises(ZeusGPUInitError, "no token was provided"):
            get_gpus()

    with check(f"a token of another key is rejected {via}"):
        use("foreign")
        client = ZeusdClient()
        true("Token rejected" in (client.auth_error or ""), f"{client.auth_error}")
        equal(client.granted_scopes, frozenset())
        with raises(ZeusdError, "Failed to get_gpu_power", "Invalid token"):
            client.get_gpu_power()

    with check(f"a token with too narrow a scope may only do what it says {via}"):
        use("gpu-read")
        client = ZeusdClient()
        equal((client.auth_error, client.granted_scopes), (None, frozenset(["gpu-read"])))
        equal((client.can_read_gpu, client.can_control_gpu, client.can_read_cpu), (True, False, False))
        equal(sorted(client.get_gpu_power().power_mw), [0, 1])
        with raises(ZeusdCapabilityError, "lacks required scope 'gpu-control'"):
            require_capabilities(client, read_gpu=True, control_gpu=True)
        before = power_limit_mw(0)
        with raises(ZeusdError, "Failed to set_power_limit", "lacks required scope 'gpu-control'"):
            client.set_power_limit([0], limit_mw)
        equal(power_limit_mw(0), before)
        with raises(ZeusdError, "Failed to get_cpu_power", "lacks required scope 'cpu-read'"):
            client.get_cpu_power()
        with raises(ZeusGPUInitError, "gpu-control"):
            get_gpus()

    with check(f"a token with every scope may do everything {via}"):
        use("all")
        client = ZeusdClient()
        equal(client.granted_scopes, frozenset(["gpu-control", "gpu-read", "cpu-read"]))
        require_capabilities(client, read_gpu=True, control_gpu=True, read_cpu=True)
        client.set_power_limit([0], limit_mw)
        equal(power_limit_mw(0), limit_mw)
        equal(sorted(client.get_gpu_power().power_mw), [0, 1])
        equal(sorted(client.get_cpu_power().power_mw), CPUS)

    with check(f"GPU and CPU objects use the token of the environment {via}"):
        get_gpus().set_power_management_limit(1, limit_mw + 5_000)
        equal(power_limit_mw(1), limit_mw + 5_000)
        true(get_cpus().get_total_energy_consumption(0).cpu_mj > 0, "no energy")

    with check(f"streams with a token of every scope deliver every device {via}"):
        client = streaming_client(token=SETUP["tokens"]["all"])
        eventually("sample of each device", lambda: has_all_devices(client))

    with check(f"streams with a token for CPUs deliver CPUs only, and asked for GPUs refuse {via}"):
        client = streaming_client(token=SETUP["tokens"]["cpu-read"])

        def with_first_cpu():
            readings = client.get_power().get(SETUP["endpoint"])
            return readings if readings and 0 in readings.cpu_power_w else None

        readings = eventually("sample of CPU 0", with_first_cpu)
        equal(readings.gpu_power_w, {})
        with raises(ZeusdCapabilityError, "gpu-read"):
            streaming_client(token=SETUP["tokens"]["cpu-read"], gpu_indices=[0])


if VERSION < (0, 15):
    without_tokens()
else:
    with_tokens()
