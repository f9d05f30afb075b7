"""Check whether this machine and its cluster are fit for a run. Each check gives a line, and a remedy if there is a
problem. Nothing is downloaded; only temporary files are written."""

from __future__ import annotations

import fcntl
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import yaml

from centerclip import ROOT, gpus
from centerclip.command import FAILED, SUCCEEDED, UserError, flock, last_error
from centerclip.data.download import sources
from centerclip.method.errors import Misfit
from centerclip.report import forecast
from centerclip.settings import layout, resolve
from centerclip.settings.cell import Cell
from centerclip.settings.config import check_installed

if TYPE_CHECKING:
    import torch

OK, NOTE, PROBLEM = "ok", "note", "problem"
PYTHONS = (3, 11), (3, 13)  # oldest and newest tested
OPEN_FILES = 1024  # of a process: 16 shards, a pipe and shared memory for each waiting batch
PREFETCHED = 2  # batches that each worker of PyTorch's DataLoader has ready
BUSY = 1000  # MiB of a GPU's memory in use that tell of another program
SECONDS = 180  # that a trial of the GPUs may take
NETWORK = re.compile(r"nfs|cifs|smb|lustre|gpfs|beegfs|ceph|gluster|sshfs|9p|afs")  # in the type of a file system
USER = re.compile(r"(?<=//)[^/@]*@")  # user and password of a URL
TRIAL = "from centerclip.report import doctor; doctor.{}()"


class Finding(NamedTuple):
    """The result of a check, and the remedy for a problem or a note."""

    about: str
    state: str
    line: str
    remedy: str = ""


def judged(about: str, good: bool, line: str, remedy: str, otherwise: str = PROBLEM) -> Finding:
    """A finding that is OK if it is `good`."""
    return Finding(about, OK, line) if good else Finding(about, otherwise, line, remedy)


def findings(config: dict, profile: Path) -> Iterator[Finding]:
    """All findings for the run of `config`, except about its videos. `profile`: the folder of the SLURM profile."""
    cells = list(chain.from_iterable(forecast.cells(config, name) for name in config["run"]["benchmarks"]))
    oldest, newest = (".".join(map(str, version)) for version in PYTHONS)
    tested = PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]
    yield judged("Python", tested, ".".join(map(str, sys.version_info[:3])), f"use Python {oldest} to {newest}")
    yield from packages(config, cells)
    yield from graphics(cells)
    yield from storage(config)
    yield from limits(cells)
    yield from network(config)
    yield from slurm(profile)
    yield from jobs()


def packages(config: dict, cells: list[Cell]) -> Iterator[Finding]:
    missing = {}
    for cell in cells:
        try:
            check_installed(config, cell)
        except Misfit as error:
            missing[str(error)] = None
    for line in missing:
        needed, _, remedy = line.partition(": ")
        yield Finding("packages", PROBLEM, needed, f"{remedy}; for --use-conda, add it to environment.yml instead")


def said(*command: str) -> str | None:
    """The output of a program; None if it is not installed or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def graphics(cells: list[Cell]) -> Iterator[Finding]:
    """Check PyTorch's CUDA and the driver, the GPUs, and whether they compute correctly."""
    import torch

    listing = said("nvidia-smi", "--query-gpu=index,name,memory.total,memory.used", "--format=csv,noheader,nounits")
    cards = [re.split(r",\s*", line) for line in (listing or "").splitlines() if line.count(",") == 3]
    if not cards:  # without a card, some versions print a sentence
        yield Finding("PyTorch", OK, torch.__version__)
        remedy = "use a machine with a GPU, or let trainings run on the CPU"
        yield Finding("GPUs", NOTE, "nvidia-smi, the driver's program, shows none", remedy)
        return
    for index, name, total, used in cards:
        free = not used.isdecimal() or int(used) <= BUSY  # some GPUs do not tell
        line = f"{index}: {name}, {used} of {total} MiB in use"
        yield judged("GPUs", free, line, "wait for the other program, or end it", NOTE)
    built = torch.version.cuda
    if built is None:
        yield Finding("CUDA", PROBLEM, f"PyTorch {torch.__version__} is a build without CUDA", "install one with CUDA")
        return
    driver = re.search(r"CUDA Version: *(\d+\.\d+)", said("nvidia-smi") or "")
    newest = driver[1] if driver else built
    runs = int(built.partition(".")[0]) <= int(newest.partition(".")[0])
    line = f"PyTorch {torch.__version__} is built for CUDA {built}, the driver runs CUDA {newest}"
    remedy = f"update the driver, or install a PyTorch for CUDA {newest.partition('.')[0]}"
    yield judged("CUDA", runs, line, remedy)
    if not runs:
        return
    visible = len(gpus.visible())
    wanted = max((cell.runtime.gpus for cell in cells if cell.trained), default=0)
    if visible < wanted:
        remedy = f"set training.gpus to {max(1, visible)}, or CUDA_VISIBLE_DEVICES to more"
        yield Finding("GPUs", PROBLEM, f"training.gpus is {wanted}, but this process may use {visible}", remedy)
    yield tried("a matrix product and a Triton kernel", visible, [sys.executable, "-c", TRIAL.format("compute")])
    if visible > 1:
        together = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={visible}"]
        yield tried("a ring of NCCL", visible, [*together, "--no-python", sys.executable, "-c", TRIAL.format("ring")])


def tried(what: str, count: int, command: list[str]) -> Finding:
    """Whether a trial on `count` GPUs, in processes of their own, succeeds."""
    remedy = "read docs/gpu.md; if one GPU is at fault, leave it out by CUDA_VISIBLE_DEVICES"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment)
    except subprocess.TimeoutExpired:
        return Finding("GPUs", PROBLEM, f"{what}: no end in {SECONDS} s", remedy)
    errors = [line for line in done.stderr.splitlines() if re.match(r"[\w.]*(Error|Exception)\b", line)]
    reason = errors[0] if errors else f"ended with {done.returncode}"
    right = done.returncode == 0
    return judged("GPUs", right, f"{what}: right on {count}" if right else f"{what}: {reason}", remedy)


def compute() -> None:
    """Compute on every GPU. Raises ArithmeticError for a wrong result, and if Triton does not work."""
    import torch

    for index in range(torch.cuda.device_count()):
        check_device(torch.device("cuda", index))


def check_device(device: torch.device) -> None:
    """Raise ArithmeticError if `device` gets a matrix product or, on a GPU, the clustering kernel wrong."""
    import torch

    from centerclip.method.reduction.kmedoids import kernel_runs

    numbers = torch.arange(512.0, device=device) % 7  # small and whole: exact in any precision
    expected = (numbers.double() * numbers.double()).sum()
    product = numbers.half().expand(16, -1) @ numbers.half().expand(16, -1).T
    if not torch.isclose(product.double(), expected, rtol=1e-3).all():
        raise ArithmeticError(f"{device}: a matrix product is wrong")
    if device.type == "cuda" and not kernel_runs(device):
        raise ArithmeticError(f"{device}: Triton's kernel does not run; is a C compiler installed?")


def ring() -> None:
    """Let all processes that torchrun started agree on a number. Raises ArithmeticError if they do not."""
    import torch

    from centerclip.backbones.device import pick_device
    from centerclip.train import processes

    device = processes.join(pick_device)
    largest, world = processes.max_over_ranks(processes.rank() + 1, device), processes.world()
    torch.distributed.destroy_process_group()  # or its threads may abort the process at its end
    if largest != world:
        raise ArithmeticError("the processes do not agree")


def storage(config: dict) -> Iterator[Finding]:
    """Check free disk space against the needs of the run, and the file system of results/."""
    need, folder = 0, existing(Path("results").absolute())
    try:
        works = list(chain.from_iterable(forecast.works(config).values()))
        stages = forecast.disk(works, forecast.stored(config, works).values(), max(1, len(gpus.visible())))
        need = sum(size or 0 for sizes in stages.values() for size in sizes)
    except UserError as error:
        yield Finding("disk", NOTE, f"what the run needs is not known: {error}", "correct it, or go on without")
    free = shutil.disk_usage(folder).free
    line = f"{folder}: {free / 1e9:,.0f} GB free, at least {need / 1e9:,.0f} GB needed"
    remedy = "free some, or make results/ a link to a larger disk; `centerclip plan` lists what needs how much"
    yield judged("disk", free > need, line, remedy)
    kind = (said("stat", "--file-system", "--format=%T", str(folder)) or "unknown").strip()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        local = not NETWORK.search(kind)
        line = f"{folder}: {kind}{'' if local else ', a network file system'}, it locks"
        yield judged("file system", local, line, "stored frames load faster from a local disk", NOTE)
    except UserError as error:
        line, _, remedy = str(error).rpartition(": ")
        yield Finding("file system", PROBLEM, line, remedy)
    except OSError as error:
        yield Finding("file system", PROBLEM, f"{folder}: {error.strerror}", "change its permissions")


def existing(path: Path) -> Path:
    """`path`, or the nearest existing folder above it."""
    return next(folder for folder in (path, *path.parents) if folder.exists()).resolve()


def limits(cells: list[Cell], shared: Path = Path("/dev/shm")) -> Iterator[Finding]:
    """Check shared memory and the limit of open files against the needs of loading frames."""
    need = max((loading(cell) for cell in cells if cell.trained), default=0)
    if shared.exists():
        free = shutil.disk_usage(shared).free
        line = f"{shared}: {free / 1e9:.1f} GB free, {need / 1e9:.1f} GB needed by the workers of a training"
        remedy = f"docker run --shm-size={need / 1e9 + 1:.0f}g, or training.workers: 0"
        yield judged("shared memory", free >= need, line, remedy)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    unlimited = hard == resource.RLIM_INFINITY
    line = f"{'any number of' if unlimited else f'{hard:,}'} open files allowed, {OPEN_FILES:,} needed"
    yield judged("open files", unlimited or hard >= OPEN_FILES, line, f"ulimit -Hn {OPEN_FILES}, as root")


def loading(cell: Cell) -> int:
    """Bytes that a training's workers keep ready."""
    batch = cell.training.batch_size * cell.data.frames * 3 * cell.data.image_size**2
    return batch * PREFETCHED * cell.runtime.workers


def network(config: dict) -> Iterator[Finding]:
    """Check proxies, the Hub's cache and token, and the access that owners of data require."""
    from huggingface_hub import constants, get_token

    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        if url := os.environ.get(name):
            reached = reaches(url)
            line = f"{name}={USER.sub('', url)}{'' if reached else ' does not answer'}"
            yield judged("proxy", reached, line, f"correct {name}, or unset it")
    bundle = os.environ.get("REQUESTS_CA_BUNDLE")
    if bundle and not Path(bundle).exists():
        yield Finding("proxy", PROBLEM, f"REQUESTS_CA_BUNDLE={bundle}: no such file", "correct it, or unset it")
    cache = Path(constants.HF_HUB_CACHE)
    writable = os.access(existing(cache.absolute()), os.W_OK)
    line = f"{cache}: {'can' if writable else 'cannot'} be written"
    yield judged("hub", writable, line, "set HF_HOME to a folder of yours")
    if constants.HF_HUB_OFFLINE:
        yield Finding("hub", NOTE, "HF_HUB_OFFLINE is set: nothing is downloaded from it", "unset it for the first run")
    yield Finding("hub", OK, "a token is set" if get_token() else "no token is set; public files need none")
    for name in {resolve.dataset(config, name): None for name in config["run"]["benchmarks"]}:
        if not Path(layout.SOURCE.format(dataset=name)).exists():
            for line in sources.wishes(name, config["benchmarks"][name]["source"])[:-1]:
                remedy = f"name local copies in the config: benchmarks.{name}.source.local"
                yield Finding("downloads", PROBLEM, line, remedy)


def reaches(url: str) -> bool:
    """Whether a proxy's address answers."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    try:
        socket.create_connection((parts.hostname or "", parts.port or 80), 3).close()
        return True
    except (OSError, ValueError):
        return False


def slurm(profile: Path) -> Iterator[Finding]:
    """Check whether the cluster has the partition and the account of the profile. No findings without SLURM."""
    if (partitions := said("sinfo", "-h", "-o", "%R")) is None:
        return
    file = profile / "config.yaml"
    try:
        wanted = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("default-resources") or {}
    except (OSError, yaml.YAMLError) as error:
        yield Finding("SLURM", PROBLEM, f"{file}: cannot be read: {error}", "name the profile: --profile FOLDER")
        return
    user = os.environ.get("USER", "")
    accounts = said("sacctmgr", "-nP", "show", "user", user, "withassoc", "format=account")
    for what, listed in (("partition", partitions), ("account", accounts)):
        name = str(wanted.get(f"slurm_{what}", ""))
        names = sorted(set((listed or name).split()))  # a cluster without accounting lists no accounts
        remedy = f"edit slurm_{what} in {file}: the cluster has {', '.join(names)}"
        yield judged("SLURM", name in names, f"{what} {name}", remedy)


def held(lock: Path) -> bool:
    """Whether a process of this machine has locked a file with `flock`."""
    locks = Path("/proc/locks")
    if not lock.exists():
        return False
    if locks.exists():  # taking the lock would stop a run that starts at this moment
        return bool(re.search(rf" FLOCK .*:{lock.stat().st_ino} ", locks.read_text(encoding="utf-8")))
    with open(lock, encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def jobs() -> Iterator[Finding]:
    """Check whether a run is writing to results/, and list its failed jobs."""
    results = Path("results")
    if running := held(results / ".lock"):
        yield Finding("run", NOTE, f"{results.resolve()}: a run is writing there", "wait, or read its logs")
    for mark in sorted((results / "logs").rglob(f"*{FAILED}")):
        log = mark.with_name(mark.name.removesuffix(FAILED))
        if log.exists() and SUCCEEDED in log.read_text(encoding="utf-8", errors="replace"):
            continue
        error = last_error(log)
        if error or not running:  # a running job has a mark, too
            remedy = "correct the cause, then type your snakemake command again: it resumes"
            yield Finding("run", PROBLEM, f"{log}: {error or 'the job was killed'}", remedy)
