"""Checkpoints: what they hold, when they are resumed, and what may go wrong with their files."""

import errno
import io
import math
import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from support.damage import damaged
from support.training import CELL, ORIGIN, batch, run_in

from centerclip.command import UserError
from centerclip.method import reduction
from centerclip.settings import revisions
from centerclip.settings.cell import Runtime
from centerclip.train import checkpoints, loop
from centerclip.train.loop import Run, train_step


def saved(directory: Path, step: int = 0, **changes) -> Run:
    """A run that has written a checkpoint."""
    run = run_in(directory, **changes)
    run.progress["step"] = step
    run.save()
    return run


def resumed(directory: Path, **changes) -> Run:
    """A run that has looked for a checkpoint to go on from."""
    run = run_in(directory, **changes)
    run.resume()
    return run


def test_it_goes_on_as_if_nothing_had_happened(tmp_path):
    straight = run_in(tmp_path)
    expected = [train_step(straight, batch(number), 1.0) for number in range(4)]
    first = run_in(tmp_path)
    losses = [train_step(first, batch(number), 1.0) for number in (0, 1)]
    first.progress["step"] = 2
    first.save()
    second = resumed(tmp_path)
    assert second.progress["step"] == 2
    losses += [train_step(second, batch(number), 1.0) for number in (2, 3)]
    assert losses == expected
    for name, value in straight.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value), name


def test_gpu_time_and_energy_of_all_sessions_add_up(tmp_path, monkeypatch):
    """On 2 GPUs: 10 s and 60 J each, then 5 s and 40 J. From a checkpoint without these numbers they are unknown."""
    seconds, energy = iter([0, 10, 20, 25, 30, 31]), iter([100, 160, 1000, 1040, 0, 1])
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(seconds))
    monkeypatch.setattr(loop, "joules", lambda device: next(energy))
    monkeypatch.setattr(loop.processes, "world", lambda: 2)
    for gpu_seconds, joules in ((20, 120), (30, 200)):
        run = resumed(tmp_path)
        run.device = torch.device("cuda")
        run.save()
        assert (run.progress["gpu_seconds"], run.progress["joules"]) == (gpu_seconds, joules)
    state = torch.load(tmp_path / "checkpoint.pt")
    del state["progress"]["joules"]
    torch.save(state, tmp_path / "checkpoint.pt")
    assert math.isnan(resumed(tmp_path).progress["joules"])


def test_whatever_is_damaged_the_one_before_it_is_resumed(tmp_path, capsys):
    """A changed bit of a tensor too, which PyTorch would read as another number."""
    saved(tmp_path, 1).save()
    saved(tmp_path, 2)
    path = tmp_path / "checkpoint.pt"
    content, state = path.read_bytes(), torch.load(path)
    place = content.index(next(iter(state["model"].values())).numpy().tobytes()[:64])
    damages = [content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :], *damaged(content, 15)]
    damages += [content[:kept] for kept in (0, 10, 40, 1000, -5000)]
    for part in ("model", "optimizer", "progress", "selected"):
        torch.save({name: value for name, value in state.items() if name != part}, lacking := io.BytesIO())
        damages.append(lacking.getvalue())
    for damage in damages:
        path.write_bytes(damage)
        assert resumed(tmp_path).progress["step"] == 1 or damage == content
    assert f"warning: {path} is damaged (KeyError); looking for the one before it" in capsys.readouterr().out
    (tmp_path / "checkpoint.previous.pt").unlink()
    assert resumed(tmp_path).progress["step"] == 0


def test_one_of_another_model_is_a_mistake(tmp_path):
    saved(tmp_path, 1)
    state = torch.load(tmp_path / "checkpoint.pt")
    del state["model"]["logit_scale"]
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(
        UserError, match=r"checkpoint.pt: its model is not this cell's .*; delete it to go on from the one"
    ):
        resumed(tmp_path)


def test_a_file_system_without_locks_is_told_with_the_folder(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", unsupported)
    told = "its file system has no locks .No locks available.: put the folder on one that has, such as a local disk"
    with pytest.raises(UserError, match=f"{tmp_path}: {told}"), checkpoints.sole_owner(tmp_path):
        pass


def test_a_disk_that_does_not_answer_is_no_damage(tmp_path, monkeypatch):
    """Training would start anew, over good checkpoints."""
    saved(tmp_path)

    def fail(path, **_):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(OSError, match="Input/output error"):
        resumed(tmp_path)


def test_one_without_a_scaler_is_resumed_with_one(tmp_path):
    """From a GPU of bfloat16 to one of float16."""
    saved(tmp_path, 3)
    other = run_in(tmp_path)
    other.scaler = torch.amp.GradScaler("cpu")
    other.resume()
    assert other.progress["step"] == 3 and other.scaler.get_scale() == 2.0**16


def test_a_full_disk_leaves_the_last_and_tells_what_was_needed(tmp_path, monkeypatch):
    run, path = saved(tmp_path), tmp_path / "checkpoint.pt"
    before = path.read_bytes()

    def full(_, file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    def full_in_torchs_words(*arguments):
        try:
            full(*arguments)
        finally:
            raise RuntimeError("unexpected pos 768 vs 662")  # as torch, whose error hides the first

    for fail in (full, full_in_torchs_words):
        monkeypatch.setattr(torch, "save", fail)
        with pytest.raises(UserError, match=r"needs up to \d+ MB: No space left on device; the last is intact$"):
            run.save()
        assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    path.unlink()
    with pytest.raises(UserError, match=r"No space left on device$"):
        run.save()


class TestOtherOrigin:
    @pytest.mark.parametrize(
        ("changed", "named"),
        [
            ({"settings": "x"}, "settings"),
            ({"settings": "x", "revisions": "y"}, "settings and revisions"),
        ],
    )
    def test_it_is_kept_aside_and_the_terminal_tells_what_differs(self, tmp_path, changed, named, capsys):
        saved(tmp_path, 1)
        saved(tmp_path, 2)
        before = (tmp_path / "checkpoint.pt").read_bytes()
        run = resumed(tmp_path, origin=ORIGIN | changed)
        assert run.progress["step"] == 0
        (line,) = capsys.readouterr().err.splitlines()
        assert line == (
            f"{tmp_path}/checkpoint.pt was made with other {named}: training starts from the beginning, and"
            " checkpoint.aside.pt keeps the checkpoint"
        )
        assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.aside.pt"]
        run.save()
        assert (tmp_path / "checkpoint.aside.pt").read_bytes() == before
        assert resumed(tmp_path, origin=ORIGIN | changed).progress["step"] == 0
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize("made_from", [{}, {"made_from": {"settings": ORIGIN["settings"]}}])
    def test_one_of_an_earlier_version_is_kept_aside(self, tmp_path, made_from):
        saved(tmp_path, 1)
        state = torch.load(tmp_path / "checkpoint.pt")
        del state["made_from"]
        torch.save(state | made_from, tmp_path / "checkpoint.pt")
        assert resumed(tmp_path).progress["step"] == 0
        assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.aside.pt"]

    def test_one_set_aside_before_is_replaced(self, tmp_path):
        for number, mark in enumerate("xyz"):
            resumed(tmp_path, origin=ORIGIN | {"revisions": mark})
            saved(tmp_path, number, origin=ORIGIN | {"revisions": mark})
        assert torch.load(tmp_path / "checkpoint.aside.pt")["progress"]["step"] == 1
        checkpoints.remove(tmp_path)
        assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.aside.pt"]


class TestOrigin:
    ROWS = pd.DataFrame({"split": "train", "video_id": ["a", "b"], "path": ["a.mp4", "b.mp4"], "caption": ["x", "y"]})

    @pytest.fixture
    def origin(self, tmp_path):
        """A function: the origin of a cell, and rows, on one report of frames."""
        report = tmp_path / "report.csv"
        report.write_text("video_id,frames\n")
        return lambda cell=CELL, rows=self.ROWS: checkpoints.origin(cell, rows, report)

    def different(self, before: dict, after: dict) -> list[str]:
        return [part for part in before if before[part] != after[part]]

    def test_settings(self, origin):
        assert self.different(origin(), origin(replace(CELL, seed=1))) == ["settings"]
        recipe = replace(CELL.training, lr=1.0)
        assert self.different(origin(), origin(replace(CELL, training=recipe))) == ["settings"]
        runtime = Runtime(gpus=2, chunk=8, grad_checkpointing=True, workers=3, checkpoint_minutes=1.0, threads=5)
        assert origin(replace(CELL, runtime=runtime, results=Path("elsewhere/results"))) == origin()

    def test_data(self, origin, tmp_path):
        before = origin()
        assert origin(rows=self.ROWS.assign(path="moved.mp4")) == before
        assert self.different(before, origin(rows=self.ROWS.assign(caption="z"))) == ["data"]
        assert self.different(before, origin(rows=self.ROWS[:1])) == ["data"]
        (tmp_path / "report.csv").write_text("video_id,frames\na,1\n")
        assert self.different(before, origin()) == ["data"]

    def test_pretrained_weights(self, origin, tmp_path):
        pretrained = replace(CELL, model=replace(CELL.model, weights=str(tmp_path / "w.pt")))
        (tmp_path / "w.pt").write_bytes(b"1")
        before = origin(pretrained)
        assert self.different(before, origin()) == ["settings", "data"]
        (tmp_path / "w.pt").write_bytes(b"2")
        assert self.different(before, origin(pretrained)) == ["data"]

    def test_revisions(self, origin, monkeypatch):
        """Of training and of the cell's own algorithms: a refactoring, and what other stages give, are resumed."""
        before, revision = origin(), reduction.revision
        for stage, different in (("TRAINING", ["revisions"]), ("EVALUATION", []), ("COSTS", [])):
            with monkeypatch.context() as patch:
                patch.setattr(revisions, stage, 99)
                assert self.different(before, origin()) == different
        for algorithm, different in (("kmedoids", ["revisions"]), ("spectral", [])):
            with monkeypatch.context() as patch:
                patch.setattr(reduction, "revision", lambda name, raised=algorithm: revision(name) + (name == raised))
                assert self.different(before, origin()) == different


def test_two_runs_never_write_one_and_workers_left_behind_hold_nothing(tmp_path):
    fork = multiprocessing.get_context("fork")
    started = fork.Event()
    worker = fork.Process(target=lambda: started.set() or time.sleep(60))
    with checkpoints.sole_owner(tmp_path):
        worker.start()
        started.wait()
        with pytest.raises(UserError, match="another process is training this cell"):
            checkpoints.sole_owner(tmp_path).__enter__()
    with checkpoints.sole_owner(tmp_path):
        worker.kill()
