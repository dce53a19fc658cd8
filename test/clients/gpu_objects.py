"""A client's GPU objects under the newest names, whatever its version."""

from __future__ import annotations

import functools

from checks import VERSION


def method(gpu, name: str):
    """0.10 writes setPowerManagementLimit, 0.13 and later set_power_management_limit."""
    if VERSION < (0, 13):
        first, *rest = name.split("_")
        name = first + "".join(part.capitalize() for part in rest)
    return getattr(gpu, name)


class Gpu:
    """Calls a client's GPU object under the newest names."""

    def __init__(self, gpu) -> None:
        self._gpu = gpu

    def __getattr__(self, name: str):
        return functools.partial(method(self._gpu, name))
