#!/usr/bin/env python3
"""Drives a zeusd daemon with the released, unmodified Python clients of every wire generation; see README.md."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
ENVIRONMENTS = REPOSITORY / "node_modules" / ".cache" / "zeusd-clients"

SCRIPT_TIMEOUT_S = 60
INSTALL_TIMEOUT_S = 300
START_TIMEOUT_S = 15
STOP_TIMEOUT_S = 10


@dataclass(frozen=True)
class Run:
    """One start of the daemon."""

    gpus: str  # "stub" or "simulator"
    stream_format: str  # of GPU events: "v1" or "v2"
    transport: str  # "uds" or "tcp"
    signed: bool = False
    loses_gpu: bool = False
    restores: bool = False

    @property
    def special(self) -> str | None:
        """The one script that it is for; None if it is for all that need nothing special."""
        return "tokens" if self.signed else "lost" if self.loses_gpu else "restoration" if self.restores else None

    @property
    def name(self) -> str:
        return f"{self.gpus}, {self.transport}, {self.stream_format}" + (f", {self.special}" if self.special else "")


@dataclass(frozen=True)
class Client:
    version: str
    distribution: str
    wire: str  # "json", or the stream format that its wire has
    able: frozenset[str]
    over_tcp: frozenset[str] = frozenset()

    def scripts(self, run: Run) -> list[str]:
        if run.special:
            names = [run.special] if self.wire in ("json", run.stream_format) else []
        else:
            names = ["gpus", "cpus", "api", "streams" if self.wire == run.stream_format else "cpu_streams"]
        able = self.able if run.transport == "uds" else self.over_tcp
        return [name for name in names if name in able]

    @property
    def requirements(self) -> list[Path]:
        names = ["requirements.txt"] + ["requirements-streaming.txt"] * ("streams" in self.able)
        return [HERE / name for name in names]


STREAMS = frozenset({"streams", "cpu_streams"})
EVERYTHING = frozenset({"gpus", "cpus", "api", "lost", "tokens", "restoration"}) | STREAMS

CLIENTS = [
    Client("0.10.1", "zeus-ml", "json", able=frozenset({"gpus", "lost", "tokens", "restoration"})),
    Client("0.13.1", "zeus", "json", able=frozenset({"gpus", "cpus", "lost", "tokens", "restoration"})),
    Client("0.14.0", "zeus", "v1", able=EVERYTHING - {"api"}, over_tcp=STREAMS),
    Client("0.15.1", "zeus", "v1", able=EVERYTHING, over_tcp=EVERYTHING),
    Client("0.16.0", "zeus", "v2", able=EVERYTHING, over_tcp=EVERYTHING),
]

# What the original daemons speak, by version. None of them takes our own flags or has a simulator.
ORIGINAL_WIRES = {"0.2": "json", "0.4": "v1", "0.5": "v2"}


def planned_runs(original: str | None) -> list[Run]:
    if original == "0.2":
        return [Run("stub", "v1", "uds"), Run("stub", "v1", "uds", loses_gpu=True)]
    formats = [ORIGINAL_WIRES[original]] if original else ["v1", "v2"]
    ways = [(stream_format, transport) for stream_format in formats for transport in ("uds", "tcp")]
    stub = [Run("stub", *way, signed) for way in ways for signed in (False, True)]
    stub += [Run("stub", stream_format, "uds", loses_gpu=True) for stream_format in formats]
    if original:
        return stub
    stub += [Run("stub", stream_format, "uds", restores=True) for stream_format in formats]
    return stub + [Run("simulator", *way) for way in ways]


# ---- Environments ----------------------------------------------------------------------------------------------------


def python_of(client: Client) -> Path:
    """The interpreter of the client's virtual environment, which is made if it is missing or holds something else."""
    home = ENVIRONMENTS / client.version
    wanted = f"{client.distribution}=={client.version}"
    contents = "".join([wanted, "\n", sys.version, "\n", *(path.read_text() for path in client.requirements)])
    complete = home / "complete"
    if not complete.exists() or complete.read_text() != contents:
        print(f"installing {wanted} into {home.relative_to(REPOSITORY)}", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", home], check=True, timeout=INSTALL_TIMEOUT_S)
        install = [home / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
        install += ["--no-compile", "--only-binary", ":all:", "--root-user-action", "ignore"]
        for path in client.requirements:
            install += ["--requirement", path]
        subprocess.run([*install, wanted], check=True, timeout=INSTALL_TIMEOUT_S)
        complete.write_text(contents)
    return home / "bin" / "python"


# ---- The machine -----------------------------------------------------------------------------------------------------


class Machine:
    """A stub NVIDIA library and a powercap tree whose counters run, in a folder of their own."""

    ZONES = {  # name and watts
        "intel-rapl:0": ("package-0", 80),
        "intel-rapl:0/intel-rapl:0:0": ("dram", 6),
        "intel-rapl:1": ("package-1", 60),
    }
    # Whether each CPU has DRAM: the daemon reads our tree, or simulates one CPU for a machine this small.
    DRAM_OF_CPUS = {"stub": [True, False], "simulator": [True]}

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.library = folder / "lib"
        self.library.mkdir()
        stub = self.library / "libnvidia-ml.so.1"
        source = REPOSITORY / "test" / "stub" / "nvml.c"
        command = ["cc", "-shared", "-fPIC", "-O2", "-pthread", "-Wl,-soname,libnvidia-ml.so.1", "-o", stub, source]
        subprocess.run(command, check=True, timeout=60)
        (self.library / "libnvidia-ml.so").symlink_to(stub.name)  # the name that 0.2 loads

        for gpus, cpus in self.DRAM_OF_CPUS.items():
            self._plant(self.rapl(gpus), len(cpus))
        threading.Thread(target=self._burn, daemon=True).start()

    def rapl(self, gpus: str) -> Path:
        return self.folder / gpus / "powercap" / "intel-rapl"

    def _plant(self, rapl: Path, cpus: int) -> None:
        for zone, (name, _) in self.ZONES.items():
            if int(zone[len("intel-rapl:")]) >= cpus:
                continue
            (rapl / zone).mkdir(parents=True)
            (rapl / zone / "name").write_text(f"{name}\n")
            (rapl / zone / "max_energy_range_uj").write_text("262143328850\n")
            (rapl / zone / "energy_uj").write_text("100000000000\n")

    def _burn(self) -> None:
        """Count energy. The number of digits stays, so that one write in place never shows half a value."""
        rapl = self.rapl("stub")
        files = {os.open(rapl / zone / "energy_uj", os.O_WRONLY): watts for zone, (_, watts) in self.ZONES.items()}
        start = time.monotonic()
        while True:
            time.sleep(0.02)
            elapsed_us = int((time.monotonic() - start) * 1e6)
            for file, watts in files.items():
                os.pwrite(file, b"%d\n" % (100_000_000_000 + watts * elapsed_us), 0)

    def within(self, gpus: str, command: list) -> list:
        """The command with our /sys/class in place of the machine's, for that process only: clients know no other."""
        mount = 'mount --bind "$0" /sys/class && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", mount, self.folder / gpus, *command]


def kill(process: subprocess.Popen) -> None:
    """The process and its descendants, which have a session of their own; nobody if it has ended."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# ---- Daemons ---------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Daemon:
    def __init__(self, options, machine: Machine, run: Run) -> None:
        self.run = run
        self.folder = Path(tempfile.mkdtemp(dir=machine.folder))
        self.socket = self.folder / "zeusd.sock" if run.transport == "uds" else None
        self.host_port = None if self.socket else f"127.0.0.1:{free_port()}"
        self.nvml_log = self.folder / "nvml.log"
        self.nvml_faults = self.folder / "faults"
        self.log = self.folder / "daemon.log"
        self.nvml = {
            "LD_LIBRARY_PATH": str(machine.library),
            "NVML_STUB_GPUS": "2",
            "NVML_STUB_STATE": str(self.folder / "gpus"),
        }
        self.tokens = self._issue_tokens(options.daemon) if run.signed else {}
        self._process: subprocess.Popen | None = None
        self._command = self._serve(options, machine)

    def _issue_tokens(self, daemon: list[str]) -> dict[str, str]:
        """Tokens as an administrator makes them. A key file ends in a line feed, which is part of the key."""
        for name in ("key", "foreign-key"):
            (self.folder / name).touch(0o600)
            (self.folder / name).write_text(secrets.token_hex(32) + "\n")

        def issue(key: str, scope: str) -> str:
            command = [*daemon, "token", "issue", "--signing-key-path", self.folder / key, "--user", "tester"]
            command += ["--expires", "1h", "--scope", scope]
            return subprocess.check_output(command, timeout=30, text=True, cwd=REPOSITORY).strip()

        every = "gpu-control,gpu-read,cpu-read"
        tokens = {scope: issue("key", scope) for scope in every.split(",")}
        return tokens | {"all": issue("key", every), "foreign": issue("foreign-key", every)}

    def _serve(self, options, machine: Machine) -> list:
        command = [*options.daemon] if options.original == "0.2" else [*options.daemon, "serve"]
        command += ["--mode", self.run.transport]
        command += ["--socket-path", self.socket] if self.socket else ["--tcp-bind-address", self.host_port]
        if self.run.signed:
            command += ["--signing-key-path", self.folder / "key"]
        if options.original:
            return machine.within(self.run.gpus, command)
        command += ["--gpu-stream-format", "v1"] if self.run.stream_format == "v1" else []  # v2 is the default
        command += ["--powercap-root", machine.rapl("stub")] if self.run.gpus == "stub" else ["--sim", "2xh100"]
        if self.run.transport == "tcp" and not self.run.signed:
            command += ["--allow-unauthenticated-tcp"]
        command += ["--restore-on-exit"] if self.run.restores else []
        return command

    def __enter__(self) -> Daemon:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("ZEUSD_", "NVML_"))}
        environment |= self.nvml | {"NO_COLOR": "1"}
        environment |= {"NVML_STUB_LOG": str(self.nvml_log), "NVML_STUB_FAULTS_FILE": str(self.nvml_faults)}
        self.nvml_log.touch()
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [str(part) for part in self._command],
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                self.__exit__()
                command = shlex.join(map(str, self._command))
                raise RuntimeError(f"the daemon did not start: {command}\n{self.last_words()}")
            time.sleep(0.05)
        return self

    def _answers(self) -> bool:
        address = str(self.socket) if self.socket else ("127.0.0.1", int(self.host_port.split(":")[1]))
        with socket.socket(socket.AF_UNIX if self.socket else socket.AF_INET) as probe:
            return probe.connect_ex(address) == 0

    def stop(self) -> int:
        """End it as an administrator would; the exit code, or minus the signal's number if it had to be killed."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT_S)
        self.__exit__()
        return self._process.returncode

    def __exit__(self, *_) -> None:
        kill(self._process)

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(f"    daemon: {line[:300]}" for line in lines[-10:])


# ---- Checks ----------------------------------------------------------------------------------------------------------


@dataclass
class Results:
    passed: int = 0
    failed: int = 0

    def report(self, ok: bool, version: str, what: str) -> None:
        if ok:
            self.passed += 1
        else:
            self.failed += 1
        print("ok" if ok else "FAIL", version, what, flush=True)


def run_script(client: Client, script: str, daemon: Daemon, machine: Machine, results: Results) -> None:
    setup = {
        "version": client.version,
        "gpus": daemon.run.gpus,
        "stream_format": daemon.run.stream_format,
        "transport": daemon.run.transport,
        "socket": str(daemon.socket) if daemon.socket else None,
        "host_port": daemon.host_port,
        "endpoint": str(daemon.socket or daemon.host_port),
        "dram_of_cpus": machine.DRAM_OF_CPUS[daemon.run.gpus],
        "nvml_log": str(daemon.nvml_log),
        "nvml_faults": str(daemon.nvml_faults),
        "tokens": daemon.tokens,
    }
    environment = daemon.nvml | {"PATH": os.environ["PATH"], "HOME": str(daemon.folder)}
    environment |= {"ZEUSD_CHECK": json.dumps(setup), "PYTHONPYCACHEPREFIX": str(ENVIRONMENTS / "pycache")}
    environment |= {"ZEUSD_SOCK_PATH": str(daemon.socket)} if daemon.socket else {"ZEUSD_HOST_PORT": daemon.host_port}
    command = machine.within(daemon.run.gpus, [python_of(client), HERE / f"{script}.py"])
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=daemon.folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=SCRIPT_TIMEOUT_S)
        ended = None if process.returncode == 0 else f"exit code {process.returncode}"
    except subprocess.TimeoutExpired:
        kill(process)
        output, errors = process.communicate()
        ended = f"not done after {SCRIPT_TIMEOUT_S} s"
    finally:
        kill(process)

    failed_before = results.failed
    lines = [line.split(" ", 1) for line in output.splitlines() if line.startswith(("ok ", "FAIL "))]
    for line in output.splitlines():
        if line.startswith("killed in the middle: "):
            print(client.version, line, flush=True)
    for word, what in lines:
        results.report(word == "ok", client.version, f"{what} ({daemon.run.gpus})")
    if ended or not lines:
        results.report(False, client.version, f"{script}.py ({daemon.run.name}): {ended or 'it checked nothing'}")
    if results.failed > failed_before:
        for line in errors.splitlines()[-10:]:
            print(f"    {script}.py: {line[:300]}")
        print(daemon.last_words(), flush=True)


def run_all(options, machine: Machine, results: Results) -> None:
    for run in planned_runs(options.original):
        jobs = [(client, script) for client in options.clients for script in client.scripts(run)]
        # A GPU that is lost again and again is looked for less and less often: each loss gets a daemon of its own.
        for batch in [[job] for job in jobs] if run.loses_gpu else [jobs] if jobs else []:
            run_jobs(options, machine, run, batch, results)


def run_jobs(options, machine: Machine, run: Run, jobs: list[tuple[Client, str]], results: Results) -> None:
    try:
        daemon = Daemon(options, machine, run)
        with daemon:
            for client, script in jobs:
                run_script(client, script, daemon, machine, results)
            if not options.original:
                code = daemon.stop()
                results.report(code == 0, "daemon", f"ends orderly: exit code {code} ({run.name})")
    except (RuntimeError, subprocess.SubprocessError) as error:
        results.report(False, "daemon", f"({run.name}) {error}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    versions = [client.version for client in CLIENTS]
    parser.add_argument(
        "--daemon", type=shlex.split, default="node dist/zeusd.cjs", help="the command, without `serve`"
    )
    parser.add_argument("--client", action="append", choices=versions, help="only this one")
    parser.add_argument("--original", choices=ORIGINAL_WIRES, help="the daemon is the original in this version")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("needs root: the daemon's GPU setters do, and so does a mount of its own for each client")

    wires = [ORIGINAL_WIRES[options.original]] if options.original else ["json", "v1", "v2"]
    wanted = options.client or versions
    options.clients = [client for client in CLIENTS if client.version in wanted and client.wire in wires]

    results = Results()
    for client in options.clients:
        python_of(client)
    with tempfile.TemporaryDirectory(prefix="zeusd-clients-") as folder:
        run_all(options, Machine(Path(folder)), results)
    print(f"{results.passed} passed, {results.failed} failed", flush=True)
    return 0 if results.failed == 0 and results.passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
