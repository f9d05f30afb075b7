"""`centerclip doctor`: whether a machine is fit for a run. The GPUs, SLURM and mounts are stand-ins."""

import fcntl
import json
import pickle
import socket
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from support.cells import tiny_cell
from support.videos import make_video

from centerclip.command import SUCCEEDED
from centerclip.report import copies, doctor
from centerclip.report.doctor import NOTE, OK, PROBLEM, Finding
from centerclip.settings.config import read_config
from centerclip.settings.resolve import cell
from centerclip.settings.schema import Runtime

CARD = "0, Some GPU, 81920, 3\n"


@pytest.fixture(autouse=True)
def empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "")


def states(findings) -> list[tuple[str, str]]:
    return [(each.about, each.state) for each in findings]


@pytest.fixture
def machine(monkeypatch):
    """A function: pretend what programs say, and how trials of GPUs end."""

    def pretend(built: str | None = "12.8", visible: int = 1, **programs: str) -> None:
        monkeypatch.setattr(
            doctor, "said", lambda name, *words: programs.get("query" if words and "query" in words[0] else name)
        )
        monkeypatch.setattr(
            doctor, "tried", lambda what, count, command: Finding("GPUs", OK, f"{what}: right on {count}")
        )
        monkeypatch.setattr(doctor.gpus, "visible", lambda: ["0"] * visible)
        monkeypatch.setattr(torch.version, "cuda", built)

    return pretend


@pytest.mark.parametrize("programs", [{}, {"query": "No devices were found\n"}])
def test_a_machine_without_a_gpu_is_told_and_no_problem(machine, programs):
    machine(visible=0, **programs)
    assert states(doctor.graphics([]))[-1] == ("GPUs", NOTE)


def test_a_driver_as_new_as_pytorch(machine):
    machine(query=CARD, **{"nvidia-smi": "| CUDA Version: 12.4 |"})
    lines = [each.line for each in doctor.graphics([tiny_cell()])]
    assert lines[0] == "0: Some GPU, 3 of 81920 MiB in use"
    assert lines[-1] == "a matrix product and a Triton kernel: right on 1"


def test_several_gpus_pass_a_ring(machine):
    machine(query=CARD + CARD.replace("0,", "1,", 1), visible=2)
    assert list(doctor.graphics([]))[-1].line == "a ring of NCCL: right on 2"


@pytest.mark.parametrize(
    ("built", "remedy"),
    [("13.0", "update the driver, or install a PyTorch for CUDA 12"), (None, "install one with CUDA")],
)
def test_a_pytorch_that_the_driver_does_not_run(machine, built, remedy):
    machine(built, query=CARD, **{"nvidia-smi": "| CUDA Version: 12.4 |"})
    last = list(doctor.graphics([]))[-1]
    assert (last.about, last.state, last.remedy) == ("CUDA", PROBLEM, remedy)


def test_a_gpu_that_others_use_and_more_gpus_than_there_are(machine):
    machine(query=CARD.replace(" 3\n", " 70000\n"))
    found = list(doctor.graphics([tiny_cell(runtime=Runtime(gpus=4))]))
    assert found[0].state == NOTE and "70000 of 81920 MiB" in found[0].line
    assert [each.line for each in found if each.state == PROBLEM] == ["training.gpus is 4, but this process may use 1"]


def test_a_trial_that_fails_or_hangs_is_one_line(monkeypatch):
    def tried(code: str) -> Finding:
        return doctor.tried("a product", 1, [sys.executable, "-c", code])

    assert tried("").line == "a product: right on 1"
    assert tried("raise ArithmeticError('wrong')").line == "a product: ArithmeticError: wrong"
    assert tried("raise SystemExit(3)").line == "a product: ended with 3"
    monkeypatch.setattr(doctor, "SECONDS", 0.2)
    assert tried("import time; time.sleep(9)").line == "a product: no end in 0.2 s"


def test_a_device_that_computes_wrongly_is_found(monkeypatch):
    doctor.check_device(torch.device("cpu"))
    monkeypatch.setattr(torch.Tensor, "half", lambda tensor: tensor.float() + 1)
    with pytest.raises(ArithmeticError, match="cpu: a matrix product is wrong"):
        doctor.check_device(torch.device("cpu"))


@pytest.mark.slow
def test_processes_agree_in_a_ring():
    together = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python", sys.executable]
    command = [sys.executable, *together, "-c", doctor.TRIAL.format("ring")]
    assert doctor.tried("a ring", 2, command) == Finding("GPUs", OK, "a ring: right on 2")


def test_too_small_a_disk(monkeypatch):
    config = read_config([REPOSITORY / "config/first.yaml"])
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage(10**9))
    disk, system = doctor.storage(config)
    assert (disk.state, system.state) == (PROBLEM, OK) and "1 GB free, at least 26 GB needed" in disk.line
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage(10**12))
    assert next(doctor.storage(config)).state == OK
    config["benchmarks"]["msrvtt"]["counts"] = None
    assert [each.state for each in doctor.storage(config)] == [NOTE, OK, OK]


def test_shared_memory_holds_the_batches_of_all_workers(monkeypatch):
    """2 batches of 4 videos for each of 3 workers, 6 frames of 3 x 56 x 56 bytes."""
    cell = tiny_cell(runtime=Runtime(workers=3))
    assert doctor.loading(cell) == 2 * 3 * 4 * 6 * 3 * 56 * 56
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage(doctor.loading(cell) - 1))
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda which: (256, 512))
    shared, files = doctor.limits([cell], Path("/"))
    assert (shared.state, files.state) == (PROBLEM, PROBLEM)
    assert shared.remedy == "docker run --shm-size=1g, or training.workers: 0"


def test_a_proxy_that_does_not_answer(monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://user:secret@127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("HTTPS_PROXY", url)
        assert next(doctor.network(read_config([REPOSITORY / "config/demo.yaml"]))).state == OK
    found = next(doctor.network(read_config([REPOSITORY / "config/demo.yaml"])))
    assert found.state == PROBLEM and found.line.endswith("does not answer") and "secret" not in found.line


def test_what_the_owners_of_data_ask_for(monkeypatch):
    monkeypatch.delenv("LSMDC_USER", raising=False)
    config = read_config([])
    (asked,) = [each for each in doctor.network(config) if each.about == "downloads"]
    assert asked.state == PROBLEM and asked.line.startswith("lsmdc: set LSMDC_USER and LSMDC_PASSWORD")


def test_without_slurm_nothing_is_said(machine):
    machine()
    assert list(doctor.slurm(REPOSITORY / "profiles/slurm")) == []


def test_a_missing_package_is_a_problem(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # hides it
    config = read_config([])
    (found,) = doctor.packages(config, [cell(config, "vatex", name) for name in ("zeroshot", "baseline")])
    assert (found.state, found.line) == (PROBLEM, "the reader hub needs pyarrow")
    assert found.remedy.startswith("pip install pyarrow; for --use-conda")


def test_partition_and_account_are_those_of_the_cluster(machine):
    machine(sinfo="gpu\nlong\n", sacctmgr="lab\n")
    partition, account = doctor.slurm(REPOSITORY / "profiles/slurm")
    assert partition.state == OK and account.state == PROBLEM
    assert account.remedy.endswith("profiles/slurm/config.yaml: the cluster has lab")
    (missing,) = doctor.slurm(Path("none"))
    assert missing.state == PROBLEM and missing.line.startswith("none/config.yaml: cannot be read")


def test_failed_jobs_have_their_last_error_and_a_run_is_noticed_without_its_lock(monkeypatch):
    logs = Path("results/logs/msrvtt")
    logs.mkdir(parents=True)
    (logs / "fetch.log").write_text("error: MSRVTT.zip: no answer\n")
    (logs / "manifest.log").write_text(f"{SUCCEEDED}\n")
    for name in ("fetch", "train", "manifest"):
        (logs / f"{name}.log.failed").touch()
    found = {each.line: each.state for each in doctor.jobs()}
    assert found == dict.fromkeys(
        [f"{logs}/fetch.log: MSRVTT.zip: no answer", f"{logs}/train.log: the job was killed"], PROBLEM
    )
    with open("results/.lock", "w") as lock:
        assert [each.state for each in doctor.jobs()] == [PROBLEM, PROBLEM]
        fcntl.flock(lock, fcntl.LOCK_EX)
        with monkeypatch.context() as patch:
            patch.setattr(fcntl, "flock", None)
            assert [each.state for each in doctor.jobs()] == [NOTE, PROBLEM]  # the other may be at work
        exists = Path.exists
        monkeypatch.setattr(Path, "exists", lambda path: str(path) != "/proc/locks" and exists(path))  # as on macOS
        assert [each.state for each in doctor.jobs()] == [NOTE, PROBLEM]


@pytest.fixture
def config(tmp_path):
    """MSVD with local copies of its lists and, under `videos`, of two videos of three."""
    (tmp_path / "videos").mkdir()
    make_video(tmp_path / "videos/first.avi")
    (tmp_path / "videos/second.avi").write_bytes(b"no video")
    make_video(tmp_path / "videos/v_Third.AVI.mp4")
    text = {"train_list.txt": "first\nsecond", "val_list.txt": "", "test_list.txt": "third"}
    for name, lines in text.items():
        (tmp_path / name).write_text(lines)
    captions = {"first": [["a"], ["b"]], "second": [["c"]], "third": [["d"]]}
    (tmp_path / "raw-captions.pkl").write_bytes(pickle.dumps(captions))
    local = {name: str(tmp_path / name) for name in ["videos", "raw-captions.pkl", *text]}
    config = read_config([])
    config["benchmarks"]["msvd"]["source"]["local"] = local
    return config


def test_videos_found_missing_unreadable_and_under_other_names(config):
    found = list(copies.findings(config, "msvd"))
    lines = {each.line.partition(": ")[0].rpartition("/")[2]: each for each in found}
    assert lines["train"].line == "train: 1 of 2 videos, with 2 of 3 captions" and lines["train"].state == PROBLEM
    assert lines["test"].line == "test: 0 of 1 videos, with 0 of 1 captions"
    assert lines["train"].remedy.endswith("max_unreadable_share, 0.01, to 0.5")
    assert lines["test"].remedy == "copy the others"  # without any video no share is large enough
    assert "Invalid data" in lines["second.avi"].line
    config["benchmarks"]["msvd"] |= {"partial": True, "max_unreadable_share": 0.5}
    states = [each.state for each in copies.findings(config, "msvd") if each.line.startswith(("train", "test"))]
    assert states == [PROBLEM, NOTE]  # all of test are missing, and one of the two to train on cannot be read
    assert found[-1].line.startswith("1 of 1 missing videos have other names, such as ")
    assert found[-1].remedy == "rename or link them: ln -s v_Third.AVI.mp4 third.mp4"


def test_videos_of_ones_own_are_linked_by_their_names_and_a_split_needs_captions(config):
    Path("mine.csv").write_text("video,split,caption\nthird.webm,train,a\n")
    source = {"reader": "folder", "videos": "videos", "captions": "mine.csv"}
    config["benchmarks"]["mine"] = config["benchmarks"]["msvd"] | {"source": source, "counts": None}
    found = list(copies.findings(config, "mine"))
    assert [each.remedy for each in found if each.line.startswith("test")] == ["no caption belongs to test: give some"]
    assert found[-1].remedy == "rename or link them: ln -s v_Third.AVI.mp4 third.webm"


def test_a_damaged_list_is_a_problem(config):
    Path("test_list.txt").write_text("unknown")
    (found,) = copies.findings(config, "msvd")
    assert found.state == PROBLEM and "'unknown' has no captions in raw-captions.pkl" in found.line


def test_the_command_prints_json_and_fails_if_there_is_a_problem(machine, monkeypatch, run, capsys):
    machine(visible=0)
    monkeypatch.setattr(doctor, "network", lambda config: [])
    arguments = ["doctor", "--json", "--configfile", REPOSITORY / "config/demo.yaml"]
    found = json.loads(run(*arguments))
    assert {"about", "state", "line", "remedy"} == found[0].keys() and PROBLEM not in {each["state"] for each in found}
    monkeypatch.setattr(doctor, "network", lambda config: [Finding("proxy", PROBLEM, "it is gone", "unset it")])
    with pytest.raises(SystemExit):
        run(*arguments[:1], *arguments[2:])
    printed = capsys.readouterr()
    assert "problem proxy: it is gone -> unset it\n" in printed.out and printed.err == "error: 1 problem\n"
