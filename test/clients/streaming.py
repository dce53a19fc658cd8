"""A PowerStreamingClient of any version, for the daemon of this run."""

from __future__ import annotations

from zeus.monitor.power_streaming import PowerStreamingClient

from checks import CPUS, SETUP, VERSION

if VERSION < (0, 15):
    from zeus.monitor.power_streaming import ZeusdTcpConfig as over_tcp
    from zeus.monitor.power_streaming import ZeusdUdsConfig as over_uds
else:
    from zeus.utils.zeusd import ZeusdConfig

    over_tcp, over_uds = ZeusdConfig.tcp, ZeusdConfig.uds


def streaming_client(**options) -> PowerStreamingClient:
    """Options are `gpu_indices`, `cpu_indices` and, from 0.15 on, `token`."""
    if SETUP["socket"]:
        return PowerStreamingClient([over_uds(SETUP["socket"], **options)])
    host, port = SETUP["host_port"].split(":")
    return PowerStreamingClient([over_tcp(host, int(port), **options)])


def has_all_devices(client: PowerStreamingClient) -> bool:
    readings = client.get_power().get(SETUP["endpoint"])
    return readings is not None and sorted(readings.gpu_power_w) == [0, 1] and sorted(readings.cpu_power_w) == CPUS
