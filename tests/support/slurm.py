"""A SLURM of one node on loopback, for tests: real daemons, GPUs that are device files of our own."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
SBIN = "/usr/sbin:/sbin"  # not on every PATH

CONFIG = """
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={directory}/munge.sock
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd.log
PlugStackConfig={directory}/plugstack.conf
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
KillWait=10
OverTimeLimit=0
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=gpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why there can be no SLURM here; None if there can."""
    programs = [*DAEMONS, "srun", "sbatch", "scontrol"]
    absent = [name for name in programs if not shutil.which(name, path=f"{os.environ['PATH']}:{SBIN}")]
    if absent:
        return f"not installed: {', '.join(absent)} (packages slurmctld, slurmd, slurm-client, munge)"
    if os.geteuid():
        return "its daemons start as root only"
    with tempfile.TemporaryDirectory() as directory:
        try:
            pretend_gpu(Path(directory, "gpu"))
        except PermissionError:
            return "no device file can be made"
    return None


def pretend_gpu(path: Path) -> None:
    """Make a device file for SLURM to hand out: one like /dev/null."""
    os.mknod(path, 0o666 | stat.S_IFCHR, os.stat("/dev/null").st_rdev)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports


@contextmanager
def cluster(directory: Path, environment: dict[str, str], gpus: int, cpus: int) -> Iterator[dict[str, str]]:
    """Start SLURM with its files in `directory`; yields `environment` with what its commands need. Ends its jobs."""
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool", "bin"):
        (directory / name).mkdir()
    config = directory / "slurm.conf"
    config.write_text(CONFIG.format(host=host, directory=directory, ports=free_ports(2), gpus=gpus, cpus=cpus))
    (directory / "plugstack.conf").touch()
    for index in range(gpus):
        pretend_gpu(directory / f"gpu{index}")
    devices = [f"NodeName={host} Name=gpu File={directory}/gpu{index}\n" for index in range(gpus)]
    (directory / "gres.conf").write_text("AutoDetect=off\n" + "".join(devices))
    (directory / "munge.key").touch(mode=0o600)
    (directory / "munge.key").write_bytes(os.urandom(128))
    # the executor plugin's inner srun gets no SLURM_* variables: without this it would read /etc/slurm
    (directory / "bin/srun").write_text(f'#!/bin/sh\nSLURM_CONF={config} exec {shutil.which("srun")} "$@"\n')
    (directory / "bin/srun").chmod(0o755)
    path = f"{directory}/bin:{environment['PATH']}:{SBIN}"
    environment = environment | {"SLURM_CONF": str(config), "PATH": path}

    def answer(*command: str) -> str:
        return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True).stdout.strip()

    def wait(reached: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < deadline, (directory / "slurmctld.log").read_text()
            time.sleep(0.1)

    files = {"key-file": "key", "socket": "sock", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munge = [f"--{option}={directory}/munge.{suffix}" for option, suffix in files.items()]
    try:
        for command in (["munged", "--force", *munge], ["slurmctld", "-i", "-f", config], ["slurmd", "-f", config]):
            subprocess.run(command, env=environment, check=True)
        wait(lambda: answer("sinfo", "-h", "-o", "%T") == "idle", 30)
        yield environment
        answer("scancel", "--user=root")
        wait(lambda: not answer("squeue", "-h"), 60)
    finally:
        for name in ("slurmd", "slurmctld", "munge"):
            stop(directory / f"{name}.pid")


def stop(pid_file: Path) -> None:
    """End the daemon of `pid_file`, if there is one, and wait for its end."""
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text())
    os.kill(pid, signal.SIGTERM)
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.05)
