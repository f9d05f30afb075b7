"""The recipe, step by step, against closed forms."""

import json
import math

import pytest
import torch

from centerclip import training
from centerclip.model import build
from centerclip.stage import UserError
from centerclip.training import Run, contrastive_loss, fingerprint, learning_rate_factor, parameter_groups, sole_owner

RECIPE = {
    "epochs": 2, "batch_size": 4, "lr": 1e-3, "lr_new": 1e-2, "betas": [0.9, 0.98], "eps": 1e-6, "weight_decay": 0.2,
    "warmup": 0.1, "clip_norm": 1.0, "workers": 0, "checkpoint_minutes": 1, "threads": 1,
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
    return [training.train_step(run.model, batch(i), run.optimizer, run.scaler, 1.0, 1.0) for i in range(count)]


def test_steps_lower_the_loss_and_the_scale_stays_at_most_100():
    run = Run(SETTINGS, "", torch.device("cpu"))
    with torch.no_grad():
        run.model.logit_scale.fill_(5.0)
    losses = [training.train_step(run.model, batch(0), run.optimizer, run.scaler, 1.0, 1.0) for _ in range(12)]
    assert losses[-1] < losses[1]  # the scale is clamped after the first step
    assert run.model.logit_scale.exp().item() <= 100.001


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
    losses += [training.train_step(second.model, batch(i), second.optimizer, second.scaler, 1.0, 1.0) for i in (2, 3)]
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
    file.write_text("b")
    assert len({before, fingerprint(SETTINGS, file), fingerprint(SETTINGS | {"seed": 1}, file)}) == 3


@pytest.mark.parametrize(("select", "chosen"), [("best", 2), ("last", 3)])
def test_the_selected_epoch(select, chosen):
    run = Run(SETTINGS | {"select": select}, "", torch.device("cpu"))
    for epoch, recall in enumerate((10.0, 30.0, 20.0)):
        with torch.no_grad():
            run.model.logit_scale.fill_(epoch + 1)
        run.progress["losses"] = [1.0, 2.0]
        run.end_epoch({"text_to_video": {"R@1": recall}})
    assert run.selected["epoch"] == chosen and run.selected["weights"]["logit_scale"] == chosen
    assert run.progress["epochs"][0] == {"epoch": 1, "loss": 1.5, "text_to_video": {"R@1": 10.0}}
    assert json.dumps(run.progress)


def test_two_runs_never_write_one_checkpoint(tmp_path):
    refused = pytest.raises(UserError, match="another process is training this cell")
    with sole_owner(tmp_path), refused, sole_owner(tmp_path):
        pass
    with sole_owner(tmp_path):
        pass
