"""Low-rank tuning, against full tuning and plain models; and training of heads alone."""

from dataclasses import replace

import pytest
import torch
from support.families import clip
from support.training import CELL, batch, run_in

import centerclip
from centerclip.backbones.clip import HEADS, build
from centerclip.backbones.low_rank import adapt, adapted, merge, merged_state
from centerclip.backbones.weights import load_weights, save_weights
from centerclip.command import UserError
from centerclip.data.video.batches import normalise
from centerclip.settings.cell import Runtime, from_settings
from centerclip.train import loop
from centerclip.train.loop import Run, train_step

CPU = torch.device("cpu")
VALUES = 6 * 8 * (64 + 3 * 64)  # of the factors: 6 blocks of both towers, rank 8, width 64
LEARNED = 49 * 64  # values of the stage's embedding


def tuned(**recipe):
    """CELL with another recipe, low-rank by default."""
    return replace(CELL, training=replace(CELL.training, **{"tune": "lora"} | recipe))


def trained(run, steps=(0, 1)):
    """The run after steps."""
    for number in steps:
        train_step(run, batch(number), 1.0)
    return run


@torch.no_grad()
def vectors(model):
    """What a model gives for a batch of videos and texts."""
    frames, mask, ids = batch(7)
    return torch.cat([model.eval().encode_video(normalise(frames), mask), model.encode_text(ids)])


def assert_projected(full, low, where):
    """The gradient is full tuning's, projected to the subspace. B is 0: dL/dB = dL/dW A^T in the rows of `where`, and
    dL/dA = 0."""
    for name, (module, weight) in adapted(low).items():
        gradient, factors = full.get_parameter(name).grad, module.parametrizations[weight][0]
        if not name.endswith("proj.weight"):
            parts = dict(zip("qkv", gradient.chunk(3), strict=True))
            gradient = torch.cat([parts[part] for part in where])
        expected = gradient @ factors.a.T
        assert torch.allclose(factors.b.grad, expected, rtol=1e-4, atol=1e-6 * expected.abs().max().item()), name
        assert factors.b.shape == (len(gradient), 3) and not factors.a.grad.any()


@pytest.mark.parametrize("where", [("q", "k", "v"), ("v", "q")])
def test_the_gradient_is_full_tunings_projected_to_the_subspace(where):
    full, low = Run(tuned(tune="all"), CPU), Run(tuned(where=where, rank=3), CPU)
    assert loop.backward(low, batch(0), seed=0) == loop.backward(full, batch(0), seed=0)
    assert_projected(full.model, low.model, where)
    assert len(adapted(low.model)) == 6


@pytest.mark.parametrize("where", [("q", "k", "v"), ("v", "q")])
@pytest.mark.parametrize("family", ["SigLIP", "EVA-01", "EVA-02", "PE-Core"])
class TestTowersOfTimms:
    """Whose q, k and v are one layer, one layer with a bias for each, or three layers; their texts' are packed."""

    frames = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[1, 5, 9, 63, 0, 0, 0, 0], [1, 7, 63, 0, 0, 0, 0, 0]])

    def vectors(self, model):
        videos = centerclip.reduce(model, "kmedoids", segments=2, frames=4).encode_video(self.frames)
        return torch.cat([videos, model.encode_text(self.ids, normalize=True)])

    def test_the_gradient_is_full_tunings_projected_to_the_subspace(self, family, where):
        full, low = clip(family), clip(family)
        adapt(low, 3, where)
        for model in (full, low):
            vectors = self.vectors(model)
            (vectors[:2] @ vectors[2:].T).diagonal().sum().backward()
        assert_projected(full, low, where)
        in_trunk = 3 * len(where) if family == "EVA-02" else 3
        assert len(adapted(low)) == in_trunk + 1
        trained = {name for name, parameter in low.named_parameters() if parameter.requires_grad}
        assert trained == {name for name, _ in low.named_parameters() if name.endswith((".a", ".b"))}

    @torch.no_grad()
    def test_merged_weights_are_a_plain_models(self, family, where):
        model, plain = clip(family), clip(family)
        adapt(model, 3, where)
        for module, weight in adapted(model).values():
            torch.nn.init.normal_(module.parametrizations[weight][0].b, std=0.1)
        expected = self.vectors(model)
        assert not torch.allclose(expected, self.vectors(plain), atol=1e-3)
        plain.load_state_dict(merged_state(model))
        merge(model)
        assert not adapted(model) and model.state_dict().keys() == plain.state_dict().keys()
        for merged in (model, plain):
            assert torch.allclose(self.vectors(merged), expected, atol=1e-6)


def test_text_sides_of_transformers_are_refused():
    model = clip("SigLIP")
    model.text.transformer = torch.nn.Linear(1, 1)
    with pytest.raises(
        UserError, match=r"^training.tune lora: the text side is a model of transformers, .*: tune all$"
    ):
        adapt(model, 3, "qkv")


def test_only_factors_and_learned_vectors_train_and_have_moments():
    run = Run(tuned(), CPU)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    trained(run)
    changed = {name for name, tensor in run.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name, parameter in run.model.named_parameters() if parameter.requires_grad}
    assert all(name.startswith("stages.") or name.endswith((".a", ".b")) for name in changed)
    assert sum(before[name].numel() for name in changed) == VALUES + LEARNED
    moments = [state[name] for state in run.optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert sum(tensor.nbytes for tensor in moments) == 2 * 4 * (VALUES + LEARNED)


def test_heads_alone_may_train():
    run = trained(Run(tuned(tune="all", frozen="backbone"), CPU))
    trains = {name for name, parameter in run.model.named_parameters() if parameter.grad is not None}
    assert trains == {"visual.proj", "text_projection", "logit_scale", "stages.2.embedding"}
    assert all(name.startswith(HEADS) for name in trains) and len(run.optimizer.state) == 4


def test_merged_weights_are_a_plain_models(tmp_path):
    run = trained(Run(tuned(), CPU))
    expected, file = vectors(run.model), tmp_path / "weights.safetensors"
    metrics = {"text_to_video": {"R@1": 50.0}}
    run.progress["losses"].append(1.0)
    run.end_epoch(metrics)
    save_weights(run.selected["weights"], "tiny", file)
    plain = build(CELL.model, seed=1)
    assert plain.state_dict().keys() == run.selected["weights"].keys()
    load_weights(plain, "tiny", file)
    assert torch.allclose(vectors(plain), expected, atol=1e-6)
    assert not torch.allclose(vectors(build(CELL.model, CELL.seed)), expected, atol=1e-3)  # what training began with
    merge(run.model)
    assert not adapted(run.model) and torch.equal(vectors(run.model), vectors(plain))


def test_a_resumed_run_is_an_uninterrupted_one(tmp_path):
    straight = trained(Run(tuned(), CPU), range(4))
    trained(run_in(tmp_path, tuned()), range(2)).save()
    resumed = run_in(tmp_path, tuned())
    resumed.resume()
    trained(resumed, (2, 3))
    for name, tensor in straight.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name


@pytest.mark.parametrize("recipe", [{}, {"tune": "all", "frozen": "backbone"}])
@pytest.mark.parametrize("runtime", [{"chunk": 1}, {"chunk": 3}, {"grad_checkpointing": True}])
def test_chunks_and_checkpointed_activations_change_no_gradient(recipe, runtime):
    whole, other = Run(tuned(**recipe), CPU), Run(replace(tuned(**recipe), runtime=Runtime(**runtime)), CPU)
    losses = [loop.backward(run, batch(0), seed=0) for run in (whole, other)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    for one, two in zip(whole.model.parameters(), other.model.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None) == (not one.requires_grad)
        assert one.grad is None or (one.grad - two.grad).abs().max() <= 1e-4 * one.grad.abs().max()


def test_settings_of_full_tuning_are_as_they_were():
    """So that nothing trains again; whatever the rank, which full tuning does not read."""
    names = {"tune", "rank", "where"}
    plain, low = CELL.settings(), tuned(rank=2, where=("q",)).settings()
    assert not names & plain["training"].keys() and tuned(tune="all", rank=2).settings() == plain
    assert {name: low["training"][name] for name in names} == {"tune": "lora", "rank": 2, "where": ["q"]}
    assert from_settings(low).settings() == low and from_settings(plain).training == CELL.training
