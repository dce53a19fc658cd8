"""What the client scripts share: one printed line per check, and a look at the machine that bypasses the client."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import time
import traceback
from pathlib import Path

import pynvml

SETUP = json.loads(os.environ["ZEUSD_CHECK"])
VERSION = tuple(int(part) for part in SETUP["version"].split("."))
# A daemon that sends v2 events hides its GPUs from clients of v1: their streams would die of the first event.
GPUS = [] if VERSION < (0, 16) and SETUP["stream_format"] == "v2" else [0, 1]
ON_STUB = SETUP["gpus"] == "stub"
DRAM = SETUP["dram_of_cpus"]
CPUS = list(range(len(DRAM)))


@contextlib.contextmanager
def check(what: str):
    """Print `ok` or `FAIL` with what was checked. A failure does not end the script: the next check may tell more."""
    try:
        yield
        print("ok", what, flush=True)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        print("FAIL", what, "|", " ".join(reason.split()), flush=True)


def equal(got, expected) -> None:
    if got != expected:
        raise AssertionError(f"expected {expected!r}, got {got!r}")


def true(condition: bool, told: str) -> None:
    if not condition:
        raise AssertionError(told)


@contextlib.contextmanager
def raises(kind: type[Exception], *fragments: str):
    try:
        yield
    except kind as error:
        for fragment in fragments:
            true(fragment in str(error), f"expected {fragment!r} in the error, got {str(error)!r}")
        return
    raise AssertionError(f"expected {kind.__name__} {fragments}, nothing was raised")


def eventually(what: str, condition, seconds: float = 8.0, pause: float = 0.02):
    """Wait for the condition to give something, and hand it back."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := condition():
            return result
        time.sleep(pause)
    raise AssertionError(f"no {what} within {seconds:g} s")


class _UnixConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(SETUP["socket"])


def _get(path: str) -> tuple[int, str]:
    connection = _UnixConnection("zeusd") if SETUP["socket"] else http.client.HTTPConnection(SETUP["host_port"])
    connection.timeout = 5
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def ask_daemon(path: str):
    """Plain HTTP, for what a client version cannot ask."""
    status, body = _get(path)
    true(status == 200, f"GET {path}: {status} {body}")
    return json.loads(body)


def gpu_is_back(gpu: int) -> bool:
    """Whether the daemon does not call this GPU away; an original never does, and old ones know no such path."""
    return _get(f"/gpu/get_power_limit?gpu_ids={gpu}")[0] != 503


def _handle(gpu: int):
    pynvml.nvmlInit()
    return pynvml.nvmlDeviceGetHandleByIndex(gpu)


def power_limit_mw(gpu: int) -> int:
    """The limit that is in force: read from the stub, whose state all processes share, or from the simulator."""
    if ON_STUB:
        return pynvml.nvmlDeviceGetPowerManagementLimit(_handle(gpu))
    return ask_daemon(f"/gpu/get_power_limit?gpu_ids={gpu}")[str(gpu)]["power_limit_mw"]


def persistence(gpu: int) -> bool:
    if ON_STUB:
        return pynvml.nvmlDeviceGetPersistenceMode(_handle(gpu)) == 1
    return ask_daemon(f"/gpu/get_persistence_mode?gpu_ids={gpu}")[str(gpu)]["enabled"]


@contextlib.contextmanager
def daemon_calls(*expected: str):
    """The setters that the daemon calls meanwhile, in any order of GPUs: "PowerManagementLimit 0 250000 -> 0".

    Clients keep no log, so every line is the daemon's. The simulator has none: there an answer of 200 must do.
    """
    log = Path(SETUP["nvml_log"]) if ON_STUB else None
    before = log.stat().st_size if log else 0
    yield
    if not log:
        return
    with log.open() as lines:
        lines.seek(before)
        calls = re.findall(r"^nvmlDevice((?:Set|Reset)\w+ .*)$", lines.read(), re.MULTILINE)
    for gpu in "01":
        equal([c for c in calls if c.split()[1] == gpu], [c for c in expected if c.split()[1] == gpu])


def set_faults(rules: str) -> None:
    """What the stub does wrong in the daemon from now on; the simulator knows none."""
    path = Path(SETUP["nvml_faults"])
    path.with_suffix(".new").write_text(rules)
    path.with_suffix(".new").replace(path)


@contextlib.contextmanager
def energy_of(zone: str):
    """Gives a list; the readings that are put there, in µJ, must be what the counter of this zone showed meanwhile.

    A simulated CPU has no counter that could be read: there they must only grow.
    """

    def counter_uj() -> int:
        return int(Path("/sys/class/powercap/intel-rapl", zone, "energy_uj").read_text()) if ON_STUB else 0

    before, readings = counter_uj(), []
    yield readings
    after = counter_uj() if ON_STUB else float("inf")
    true(bool(readings) and before <= readings[0] <= readings[-1] <= after, f"{readings} are not in {before}..{after}")
    equal(readings, sorted(readings))
