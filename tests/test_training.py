"""The recipe, step by step, against closed forms."""

import errno
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY

from centerclip import training
from centerclip.dataset import normalise
from centerclip.efficiency import saved_bytes
from centerclip.evaluation import autocast, count_cut
from centerclip.model import build
from centerclip.stage import UserError
from centerclip.training import Run, contrastive_loss, fingerprint, learning_rate_factor, parameter_groups, sole_owner

RECIPE = {
    "epochs": 2, "batch_size": 4, "gpus": 1, "chunk": None, "grad_checkpointing": False, "lr": 1e-3, "lr_new": 1e-2,
    "betas": [0.9, 0.98], "eps": 1e-6, "weight_decay": 0.2, "warmup": 0.1, "clip_norm": 1.0, "workers": 0,
    "checkpoint_minutes": 1, "threads": 1,
}  # fmt: skip
STAGE = {"algorithm": "kmedoids", "block": 2, "segments": 2, "clusters": 49, "embedding": True}
SETTINGS = {
    "backbone": "tiny",
    "shift": None,
    "stages": [STAGE],
    "weights": None,
    "seed": 0,
    "select": "best",
    "training": RECIPE,
}


def test_loss_by_hand():
    """Two pairs at similarity 1, off-diagonal 0, scale 2: each of the four rows has -log(e^2 / (e^2 + 1))."""
    features = torch.eye(2)
    expected = -math.log(math.e**2 / (math.e**2 + 1))
    assert contrastive_loss(features, features, torch.tensor(math.log(2))).item() == pytest.approx(expected)
    # swapped: the right answers are the other ones
    swapped = contrastive_loss(features, features.flip(0), torch.tensor(math.log(2))).item()
    assert swapped == pytest.approx(-math.log(1 / (math.e**2 + 1)))


def test_learning_rate_rises_then_falls_as_a_cosine():
    factors = [learning_rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert max(factors) == factors[10] == 1
    assert factors[55] == pytest.approx(0.5)
    assert 0 < factors[99] < 0.001
    assert learning_rate_factor(0, 5, 0) == 1


def test_parameter_groups():
    model = build("tiny", [STAGE])
    groups = parameter_groups(model, RECIPE)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    where = {names[id(p)]: (group["peak_lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert len(where) == len(names)
    assert where["cluster_embeddings.2"] == (1e-2, 0.2)
    assert where["visual.proj"] == where["visual.transformer.resblocks.0.mlp.c_fc.weight"] == (1e-3, 0.2)
    assert where["logit_scale"] == where["ln_final.weight"] == (1e-3, 0)
    assert all(decay == 0 for name, (_, decay) in where.items() if name.endswith("bias"))


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(256, (4, 6, 3, 56, 56), generator=generator, dtype=torch.uint8)
    ids = torch.randint(1, 49407, (4, 8), generator=generator)
    return [frames, torch.ones(4, 6, dtype=torch.bool), ids]


def steps(run, count):
    return [training.train_step(run, batch(i), 1.0) for i in range(count)]


def test_steps_lower_the_loss_and_the_scale_stays_at_most_100():
    run = Run(SETTINGS, "", torch.device("cpu"))
    with torch.no_grad():
        run.model.logit_scale.fill_(5.0)
    losses = [training.train_step(run, batch(0), 1.0) for _ in range(12)]
    assert losses[-1] < losses[1]  # the scale is clamped after the first step
    assert run.model.logit_scale.exp().item() <= 100.001


def gradients(run, chunk):
    run.model.zero_grad(set_to_none=True)
    torch.manual_seed(0)
    loss = training.backward(run.model, batch(0), chunk, run.scaler)
    return loss, {name: parameter.grad.clone() for name, parameter in run.model.named_parameters()}


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_a_batch_in_chunks_has_the_whole_batchs_loss_and_gradients(chunk):
    run = Run(SETTINGS, "", torch.device("cpu"))
    whole, expected = gradients(run, 4)
    loss, got = gradients(run, chunk)
    assert loss == pytest.approx(whole, rel=1e-6)
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = gradient.abs().max()
        assert scale == 0 or (got[name] - gradient).abs().max() < 1e-4 * scale, name


def test_activations_computed_again_give_the_same_gradients_from_fewer_bytes():
    run = Run(SETTINGS, "", torch.device("cpu"))
    loss, expected = gradients(run, 4)
    thrifty = Run(SETTINGS | {"training": RECIPE | {"grad_checkpointing": True}}, "", torch.device("cpu"))
    again, got = gradients(thrifty, 4)
    assert again == pytest.approx(loss, rel=1e-6) and got.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(got[name], gradient, rtol=1e-4, atol=1e-5 * gradient.abs().max().item()), name
    frames = normalise(batch(0)[0])
    assert saved_bytes(thrifty.model, frames) < 0.3 * saved_bytes(run.model, frames)


@pytest.mark.parametrize("chunk", [1, 2])
def test_two_processes_have_one_processs_loss_and_gradients(chunk, tmp_path):
    """tests/two_processes.py takes a step of the same batch in two processes, in chunks of 1 or not."""
    run = Run(SETTINGS, "", torch.device("cpu"))
    loss, expected = gradients(run, 4)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*command, "tests/two_processes.py", str(chunk), str(tmp_path)], cwd=REPOSITORY, check=True)
    for rank in (0, 1):
        got = torch.load(tmp_path / f"{rank}.pt")
        assert got.pop("loss") == pytest.approx(loss, rel=1e-6)
        assert got.pop("said") == ("in another process", "here")[rank]  # the error of one is all the processes'
        assert got.keys() == expected.keys()
        for name, gradient in expected.items():
            scale = gradient.abs().max()
            assert scale == 0 or (got[name] - gradient).abs().max() < 1e-4 * scale, name


def test_both_passes_over_a_chunk_draw_the_same(monkeypatch):
    """Random sampling of tokens: the vectors of the second pass, which carry the gradient, are those of the first."""
    sampling = SETTINGS | {"stages": [STAGE | {"algorithm": "sparse_sampling"}]}
    run, seen = Run(sampling, "", torch.device("cpu")), []
    encode = run.model.encode_video
    monkeypatch.setattr(run.model, "encode_video", lambda *arguments: seen.append(encode(*arguments)) or seen[-1])
    gradients(run, 2)
    assert len(seen) == 4
    assert torch.equal(seen[0], seen[2]) and torch.equal(seen[1], seen[3])


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize(("hardware", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_float16_where_bfloat16_is_only_emulated(monkeypatch, hardware, expected):
    """Volta and Turing cards compute bfloat16, but not in hardware."""
    supported = lambda including_emulation=True: including_emulation or hardware  # noqa: E731
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert autocast(torch.device("cuda")).fast_dtype is expected


def test_out_of_memory_halves_the_chunk_and_not_the_batch(monkeypatch):
    expected = Run(SETTINGS, "", torch.device("cpu"))
    loss = training.train_step(expected, batch(0), 1.0)
    run = Run(SETTINGS, "", torch.device("cpu"))
    encode = run.model.encode_video

    def small(frames, mask):
        if len(frames) > 2:
            raise torch.OutOfMemoryError
        return encode(frames, mask)

    monkeypatch.setattr(run.model, "encode_video", small)
    assert training.train_step(run, batch(0), 1.0) == pytest.approx(loss, rel=1e-6)
    assert run.chunk == 2

    def none(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(run.model, "encode_video", none)
    with pytest.raises(UserError, match="does not hold the model and one video"):
        training.train_step(run, batch(0), 1.0)


class FourVideos:
    """What train_epoch wants of an epoch: three batches of four."""

    epoch = 0
    video_ids = [f"video{number}" for number in range(12)]  # noqa: RUF012

    def batches(self, size):
        return [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]

    def __getitem__(self, index):
        return [part[0] for part in batch(index)]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("visual.conv1.weight", "tokens to cluster are not finite"),
        ("visual.proj", "the loss is nan"),
        ("gradient", "the gradient's norm is nan"),
    ],
)
def test_a_number_that_is_not_finite_stops_before_it_changes_anything_and_names_the_videos(tmp_path, where, said):
    run = Run(SETTINGS, "", torch.device("cpu"))
    run.save(tmp_path / "checkpoint.pt")
    if where == "gradient":
        run.model.ln_final.weight.register_hook(lambda gradient: gradient * torch.nan)
    else:
        with torch.no_grad():
            run.model.get_parameter(where).view(-1)[0] = torch.nan
    before = run.model.text_projection.clone()
    with pytest.raises(UserError) as error:
        run.train_epoch(FourVideos(), tmp_path / "checkpoint.pt")
    assert str(error.value) == (
        f"{said} at epoch 1, step 1, on the videos video0, video1, video2, video3;"
        f" the last good checkpoint is {tmp_path / 'checkpoint.pt'}"
    )
    assert torch.equal(run.model.text_projection, before)


def test_sigterm_saves_a_checkpoint_after_the_step_and_stops(tmp_path):
    run = Run(SETTINGS, "same", torch.device("cpu"))
    run.stop()
    with pytest.raises(UserError, match="stopped by SIGTERM; the checkpoint is saved"):
        run.train_epoch(FourVideos(), tmp_path / "checkpoint.pt")
    again = Run(SETTINGS, "same", torch.device("cpu"))
    again.resume(tmp_path / "checkpoint.pt")
    assert again.progress["step"] == 1
    run.evaluating = True  # when the checkpoint at the epoch's end is written
    with pytest.raises(UserError, match="stopped by SIGTERM"):
        run.stop()


def test_a_damaged_checkpoint_falls_back_to_the_one_before_it(tmp_path, capsys):
    run, path = Run(SETTINGS, "same", torch.device("cpu")), tmp_path / "checkpoint.pt"
    for step in (1, 2):
        run.progress["step"] = step
        run.save(path)
    path.write_bytes(path.read_bytes()[:-5000])
    again = Run(SETTINGS, "same", torch.device("cpu"))
    again.resume(path)
    assert again.progress["step"] == 1
    assert "warning" in (said := capsys.readouterr().out) and "is damaged" in said


@pytest.mark.parametrize("kept", [0, 10, 40, 1000, -5000])
def test_every_way_to_be_cut_off_is_damage(tmp_path, kept):
    run, path = Run(SETTINGS, "same", torch.device("cpu")), tmp_path / "checkpoint.pt"
    run.save(path)
    path.write_bytes(path.read_bytes()[:kept])
    run.resume(path)  # to no other
    assert run.progress["step"] == 0


def test_a_disk_that_does_not_answer_is_no_damage(tmp_path, monkeypatch):
    """Training would start anew, over good checkpoints."""
    run, path = Run(SETTINGS, "same", torch.device("cpu")), tmp_path / "checkpoint.pt"
    run.save(path)

    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(OSError, match="Input/output error"):
        run.resume(path)


def test_a_checkpoint_without_a_scaler_is_resumed_with_one(tmp_path):
    """From a GPU of bfloat16 to one of float16."""
    run, path = Run(SETTINGS, "same", torch.device("cpu")), tmp_path / "checkpoint.pt"
    run.progress["step"] = 3
    run.save(path)
    other = Run(SETTINGS, "same", torch.device("cpu"))
    other.scaler = torch.amp.GradScaler("cpu")
    other.resume(path)
    assert other.progress["step"] == 3 and other.scaler.get_scale() == 2.0**16


def test_a_full_disk_leaves_the_last_checkpoint_and_says_what_was_needed(tmp_path, monkeypatch):
    run, path = Run(SETTINGS, "same", torch.device("cpu")), tmp_path / "checkpoint.pt"
    run.save(path)
    before = path.read_bytes()

    def full(_, file):
        Path(file).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"needs up to \d+ MB: .*No space left on device; the last is intact"):
        run.save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_goes_on_as_if_nothing_had_happened(tmp_path):
    straight = Run(SETTINGS, "same", torch.device("cpu"))
    expected = steps(straight, 4)
    first = Run(SETTINGS, "same", torch.device("cpu"))
    losses = steps(first, 2)
    first.progress["step"] = 2
    first.save(tmp_path / "checkpoint.pt")
    second = Run(SETTINGS, "same", torch.device("cpu"))
    second.resume(tmp_path / "checkpoint.pt")
    assert second.progress["step"] == 2
    losses += [training.train_step(second, batch(i), 1.0) for i in (2, 3)]
    assert losses == expected
    for name, value in straight.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value), name


def test_a_checkpoint_of_other_settings_is_not_resumed(tmp_path, capsys):
    run = Run(SETTINGS, "one", torch.device("cpu"))
    run.progress["step"] = 2
    run.save(tmp_path / "checkpoint.pt")
    other = Run(SETTINGS, "two", torch.device("cpu"))
    other.resume(tmp_path / "checkpoint.pt")
    assert other.progress["step"] == 0 and "starting anew" in capsys.readouterr().out
    file = tmp_path / "data.csv"
    file.write_text("a")
    before = fingerprint(SETTINGS, file)
    file.write_text("b")  # of data or code
    assert len({before, fingerprint(SETTINGS, file), fingerprint(SETTINGS | {"seed": 1}, file)}) == 3


@pytest.mark.parametrize(("select", "chosen"), [("best", 2), ("val", 1), ("last", 3)])
def test_the_selected_epoch(select, chosen):
    run = Run(SETTINGS | {"select": select}, "", torch.device("cpu"))
    for epoch, recall in enumerate((10.0, 30.0, 20.0)):
        with torch.no_grad():
            run.model.logit_scale.fill_(epoch + 1)
        run.progress["losses"] = [1.0, 2.0]
        run.end_epoch({"text_to_video": {"R@1": recall}, "val": {"R@1": 50.0 - epoch}})
    assert run.selected["epoch"] == chosen and run.selected["weights"]["logit_scale"] == chosen
    assert run.progress["epochs"][0] == {"epoch": 1, "loss": 1.5, "text_to_video": {"R@1": 10.0}, "val": {"R@1": 50.0}}
    assert json.dumps(run.progress)


def test_captions_longer_than_is_read_are_counted():
    """A common word is a token, and so are the start and the end."""
    assert [count_cut(["", "a dog", "a dog runs", "the old man"], words) for words in (3, 4, 5)] == [3, 2, 0]


def test_two_runs_never_write_one_checkpoint(tmp_path):
    refused = pytest.raises(UserError, match="another process is training this cell")
    with sole_owner(tmp_path), refused, sole_owner(tmp_path):
        pass
    with sole_owner(tmp_path):
        pass
