"""The recipe, step by step, against closed forms; and trainings, interrupted, shared out and from the command line."""

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from unittest import mock

import open_clip
import pytest
import torch
from safetensors.torch import load_file
from support.cells import STAGE, tiny_cell
from support.families import FAMILIES, TEXT, as_backbone
from support.training import CELL, ENVIRONMENT, Twelve, batch, metrics, run_in, srun, two_processes, write_cell

from centerclip import cli
from centerclip.backbones.clip import build
from centerclip.backbones.device import autocast, computed_in, lowered
from centerclip.backbones.pretrained import Images
from centerclip.backbones.weights import save_weights
from centerclip.command import UserError
from centerclip.data.datasets.manifest import read_manifest, usable
from centerclip.data.video.batches import normalise
from centerclip.data.video.frames import FrameStore
from centerclip.evaluate.costs import saved_bytes
from centerclip.evaluate.features import count_cut, count_short, evaluate
from centerclip.method.errors import Misfit
from centerclip.method.stage import Model
from centerclip.settings import layout
from centerclip.settings.cell import Runtime, check_cell, from_settings, read_cell
from centerclip.train import checkpoints, loop, processes
from centerclip.train.finished import build_finished
from centerclip.train.loop import Run, contrastive_loss, learning_rate_factor, loading, parameter_groups

CPU = torch.device("cpu")
SAMPLING = tiny_cell(replace(STAGE, algorithm="sparse_sampling"))


def test_loss_by_hand():
    """Two pairs at similarity 1, off-diagonal 0, scale 2: each of the four rows has -log(e^2 / (e^2 + 1))."""
    features = torch.eye(2)
    expected = -math.log(math.e**2 / (math.e**2 + 1))
    assert contrastive_loss(features, features, torch.tensor(math.log(2))).item() == pytest.approx(expected)
    # swapped: the right answers are the other ones
    swapped = contrastive_loss(features, features.flip(0), torch.tensor(math.log(2))).item()
    assert swapped == pytest.approx(-math.log(1 / (math.e**2 + 1)))


def test_siglips_loss_is_open_clips():
    videos, texts = torch.nn.functional.normalize(torch.randn(2, 5, 8), dim=-1)
    scale, bias = torch.tensor(math.log(10)), torch.tensor(-10.0)
    expected = open_clip.loss.SigLipLoss()(videos, texts, scale.exp(), bias)
    assert torch.allclose(contrastive_loss(videos, texts, scale, bias), expected)


def test_learning_rate_without_warmup_starts_at_the_peak():
    assert [learning_rate_factor(step, 2, 0) for step in (0, 1)] == pytest.approx([1, 0.5])


@pytest.mark.parametrize("no_decay", ["biases", "vectors"])
def test_every_parameter_has_its_rate_and_its_weight_decay(no_decay):
    model = build(CELL.model, 0)
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, replace(CELL.training, no_decay=no_decay))
    found = {names[p]: (group["peak_lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    for parameter, name in names.items():
        spared = name.endswith("bias") if no_decay == "biases" else parameter.ndim < 2
        assert found.pop(name) == (1e-2 if name == "stages.2.embedding" else 1e-3, 0 if spared else 0.2), name
    assert not found


@pytest.mark.parametrize(("frozen", "still"), [("stem", 7), ("none", 0)])
def test_what_is_frozen_has_no_gradient_and_no_moments(frozen, still):
    run = Run(replace(CELL, training=replace(CELL.training, frozen=frozen)), CPU)
    loop.train_step(run, batch(0), 1.0)
    without = {name for name, parameter in run.model.named_parameters() if parameter.grad is None}
    assert len(without) == still and ("token_embedding.weight" in without) == (frozen == "stem")
    assert len(run.optimizer.state) == len([*run.model.parameters()]) - still


def test_twelve_steps_are_adamw_by_hand_at_rates_by_hand_and_leave_what_is_frozen_to_the_bit():
    """The rate rises from 0 in 3 of the steps and falls in 9, of 20 degrees of the cosine each."""
    recipe = replace(CELL.training, epochs=4, warmup=0.25)
    run, rates, seen = Run(replace(CELL, training=recipe), CPU), [], []
    trains = {name: parameter for name, parameter in run.model.named_parameters() if parameter.requires_grad}
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    followed = ("logit_scale", "visual.proj", "stages.2.embedding", "visual.transformer.resblocks.0.attn.in_proj_bias")
    expected = {name: (trains[name].detach().double(), 0.0, 0.0) for name in followed}

    def note(step, scalars):
        rates.append(scalars["lr"] / recipe.lr)
        assert torch.nn.utils.get_total_norm(parameter.grad for parameter in trains.values()) < 1.0001
        for name in followed:
            new, decay = name.startswith("stages."), 0 if name.endswith("bias") else 0.2
            rate, gradient = rates[-1] * (recipe.lr_new if new else recipe.lr), trains[name].grad.double()
            value, mean, square = expected[name]
            mean, square = 0.9 * mean + 0.1 * gradient, 0.98 * square + 0.02 * gradient**2
            root = (square / (1 - 0.98 ** (step + 1))).sqrt() + 1e-6
            value = value * (1 - rate * decay) - rate * mean / (1 - 0.9 ** (step + 1)) / root
            value = value.clamp(max=math.log(100)) if name == "logit_scale" else value
            expected[name] = value, mean, square
            assert torch.allclose(trains[name].detach().double(), value, rtol=1e-5, atol=1e-6), (name, step)
        seen.append({name: tensor.clone() for name, tensor in run.model.state_dict().items()})

    run.note = note
    for epoch in range(4):
        pairs = Twelve()
        pairs.epoch, run.progress["step"] = epoch, 0
        run.train_epoch(pairs)
    falling = [(1 + math.cos(math.radians(angle))) / 2 for angle in range(0, 180, 20)]
    assert rates == pytest.approx([0, 1 / 3, 2 / 3, *falling]) and rates[6] == pytest.approx(0.75)
    assert all(torch.equal(tensor, before[name]) for name, tensor in seen[0].items())
    still = {name for name, tensor in seen[-1].items() if torch.equal(tensor, before[name])}
    assert still >= before.keys() - trains.keys() and not still & trains.keys()


def test_steps_lower_the_loss_and_the_scale_stays_at_most_100():
    run = Run(CELL, CPU)
    with torch.no_grad():
        run.model.logit_scale.fill_(5.0)
    losses = [loop.train_step(run, batch(0), 1.0) for _ in range(12)]
    assert losses[-1] < losses[1]  # the scale is clamped after the first step
    assert run.model.logit_scale.exp().item() <= 100.001


def gradients(run, chunk, pairs=None):
    """The loss and the gradients, of what trains, of a step."""
    run.model.zero_grad(set_to_none=True)
    run.chunk = chunk
    loss = loop.backward(run, pairs or batch(0), seed=0)
    trains = {name: parameter for name, parameter in run.model.named_parameters() if parameter.requires_grad}
    return loss, {name: parameter.grad.clone() for name, parameter in trains.items()}


def close(gradients, expected):
    """Whether gradients by name are equal but for rounding."""
    assert gradients.keys() == expected.keys()
    return all((gradients[name] - right).abs().max() <= 1e-4 * right.abs().max() for name, right in expected.items())


@pytest.mark.parametrize("chunk", [1, 2, 3])
@pytest.mark.parametrize("cell", [CELL, SAMPLING], ids=["kmedoids", "random draws"])
def test_a_batch_in_chunks_has_the_whole_batchs_loss_and_gradients(cell, chunk):
    run = Run(cell, CPU)
    whole, expected = gradients(run, 4)
    loss, got = gradients(run, chunk)
    assert loss == pytest.approx(whole, rel=1e-6) and close(got, expected)


def small_pairs():
    """Frames, masks and token ids of four random pairs for the small backbones."""
    frames = torch.randint(256, (4, 4, 3, 32, 32), dtype=torch.uint8)
    return [frames, torch.ones(4, 4, dtype=torch.bool), torch.randint(1, 63, (4, 8))]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_by_siglips_loss_and_resumes_to_equal_bytes(family, monkeypatch, tmp_path):
    """In chunks, with recomputed activations, with its own mean and std, and a scale that stays above CLIP's."""
    name, pairs = as_backbone(monkeypatch, family, init_logit_bias=-10.0), small_pairs()
    data = replace(CELL.data, frames=4, image_size=32, images=Images(mean=(0.5,) * 3, std=(0.5,) * 3))
    model, recipe = Model(name, stages=(replace(STAGE, block=1, clusters=9),)), replace(CELL.training, loss="sigmoid")
    cell = replace(CELL, model=model, data=data, training=recipe)
    torch.manual_seed(1)
    state = build(Model(name), 0).state_dict() | {"logit_scale": torch.tensor(math.log(112))}
    save_weights(state, name, tmp_path / "w.safetensors")
    cell = replace(cell, model=replace(model, weights=str(tmp_path / "w.safetensors")))
    run = run_in(tmp_path, cell)
    loss, expected = gradients(run, 4, pairs)
    again = run_in(tmp_path, cell, grad_checkpointing=True)
    chunked, got = gradients(again, 1, pairs)
    assert chunked == pytest.approx(loss, rel=1e-4) and got["logit_bias"] != 0
    assert all(torch.allclose(got[name], right, rtol=1e-2, atol=1e-4 * right.abs().max()) for name, right in
               expected.items())  # fmt: skip
    loop.train_step(run, pairs, 1.0)
    assert 100 < run.model.logit_scale.exp() <= 112.001
    run.save()
    resumed = run_in(tmp_path, cell)
    resumed.resume()
    for each in (run, resumed):
        loop.train_step(each, pairs, 1.0)
    assert all(torch.equal(resumed.model.state_dict()[name], value) for name, value in run.model.state_dict().items())


def test_a_cell_of_another_family_is_trained_and_evaluated(monkeypatch, tmp_path):
    """Frames of 56 pixels, squashed, where the tower has 32."""
    name = as_backbone(monkeypatch, "PE-Core", TEXT | {"context_length": 77, "vocab_size": 49408})
    data = replace(CELL.data, images=Images(mean=(0.5,) * 3, std=(0.5,) * 3, squash=True))
    model = Model(name, stages=(replace(STAGE, block=1),))
    path = write_cell(tmp_path / "results", replace(CELL, model=model, data=data))
    cell = read_cell(path)
    weights, history = loop.train(cell, tmp_path / "checkpoints", tmp_path / "tensorboard")
    assert len(history["epochs"]) == 2 and history["train_texts_cut"] == 0
    save_weights(weights, name, cell.path(layout.WEIGHTS))
    store = FrameStore(cell.path(layout.FRAMES))
    rows = usable(read_manifest(cell.path(layout.MANIFEST)), store.counts, "test")
    metrics = evaluate(build_finished(cell), rows, store, cell)
    selected = history["epochs"][history["selected_epoch"] - 1]
    assert metrics["text_to_video"] == selected["text_to_video"]


def test_siglips_loss_needs_a_bias():
    with pytest.raises(Misfit, match=r"^loss sigmoid: tiny has no logit bias, as SigLIP's models have$"):
        check_cell(replace(CELL, training=replace(CELL.training, loss="sigmoid")))


def test_settings_left_at_their_defaults_are_not_written():
    assert not {"loss"} & CELL.settings()["training"].keys() and "images" not in CELL.settings()["data"]
    other = replace(CELL, training=replace(CELL.training, loss="sigmoid"))
    squashed = replace(CELL, data=replace(CELL.data, images=Images(squash=True, interpolation="bilinear")))
    for cell in (other, squashed):
        assert from_settings(cell.settings(), runtime=cell.runtime, costs=cell.costs) == cell
        assert cell.settings() != CELL.settings()
    assert squashed.path(layout.FRAMES).parent.name == "squash-bilinear-56px"


def test_activations_computed_again_give_the_same_gradients_from_fewer_bytes():
    run = Run(CELL, CPU)
    loss, expected = gradients(run, 4)
    thrifty = Run(replace(CELL, runtime=Runtime(grad_checkpointing=True)), CPU)
    again, got = gradients(thrifty, 4)
    assert again == pytest.approx(loss, rel=1e-6) and close(got, expected)
    frames = normalise(batch(0)[0])
    assert saved_bytes(thrifty.model, frames) < 0.3 * saved_bytes(run.model, frames)


@pytest.fixture(scope="module", params=["together", "nodes", "srun"])
def both(request, tmp_path_factory):
    """What each of two processes has of a step, by how they were started."""
    directory = tmp_path_factory.mktemp(request.param)
    two_processes("step", directory, started=request.param)
    return [torch.load(directory / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.slow
def test_two_processes_have_one_processs_loss_and_gradients(both):
    """In chunks of 1, in one, and with recomputed activations."""
    loss, expected = gradients(Run(CELL, CPU), 4)
    for got in (step for each in both for step in each["steps"]):
        assert got.pop("loss") == pytest.approx(loss, rel=1e-6)
        assert close(got, expected)


@pytest.mark.slow
def test_gradients_of_parameters_that_only_some_passes_use_are_averaged(both):
    """3 and, in one process, 2 more; 2 in the other process alone; none anywhere."""
    assert all(each["spare"] == [torch.tensor([4.0]), torch.tensor([1.0]), None] for each in both)


@pytest.mark.slow
def test_full_memory_of_one_process_halves_the_chunk_of_all(both):
    """While it encodes, and in its backward pass."""
    loss, _ = gradients(Run(CELL, CPU), 4)
    assert all(each["full"] == 2 * [(1, pytest.approx(loss, rel=1e-6))] for each in both)


@pytest.mark.slow
def test_an_error_of_one_process_is_all_the_processes(both):
    assert [each["reason"] for each in both] == ["in another process", "here"]


def test_full_memory_while_gradients_are_sent_ends_the_training():
    """The other processes wait for the rest of them, and cannot begin anew."""
    run = Run(CELL, CPU)
    run.averaged = mock.Mock(require_backward_grad_sync=True, side_effect=torch.OutOfMemoryError)
    with pytest.raises(UserError, match=r"full while it sent gradients; set a smaller training\.chunk"):
        loop.train_step(run, batch(0), 1.0)


def test_a_platforms_variables_make_no_process_one_of_several(monkeypatch):
    """As Kubeflow and AzureML set them for every process, whatever it runs."""
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "3")
    assert processes.join(lambda: CPU) is CPU and (processes.rank(), processes.world()) == (0, 1)
    assert processes.gather(torch.ones(2)).tolist() == [[1, 1]] and processes.share_of([5, 6]) == [5, 6]


def test_a_process_of_several_touches_no_gpu_but_its_own(monkeypatch):
    """Each would take memory of GPU 0 otherwise. Here number 3 of a node, which sees 2 GPUs."""
    cuda = mock.Mock(device_count=lambda: 2, is_available=lambda: True, pick=mock.Mock(return_value=CPU))
    monkeypatch.setattr(os, "environ", os.environ | srun(1) | {"SLURM_LOCALID": "3"})
    monkeypatch.setattr(torch, "cuda", cuda)
    monkeypatch.setattr(processes.dist, "init_process_group", cuda.init)
    assert processes.join(cuda.pick) == CPU
    assert cuda.mock_calls == [mock.call.set_device(1), mock.call.pick(), mock.call.init("gloo")]


@pytest.mark.parametrize("ignored", [None, "SIGHUP", "SIGINT"])
def test_a_launcher_ignores_what_it_was_started_to_ignore(ignored, monkeypatch):
    """nohup has SIGHUP ignored, and a shell the SIGINT of what runs behind a script."""
    launched = mock.Mock()
    monkeypatch.setattr(processes, "elastic_launch", launched)
    monkeypatch.setattr(
        processes, "getsignal", {signal.Signals[ignored]: signal.SIG_IGN}.get if ignored else mock.Mock()
    )
    processes.launch(2, None)
    expected = [name for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT") if name != ignored]
    assert launched.call_args.args[0].signals_to_handle == ",".join(expected)


@pytest.mark.parametrize(("number", "raised"), [("SIGINT", KeyboardInterrupt), ("SIGTERM", UserError)])
def test_a_launcher_that_a_signal_ends_says_so(number, raised, monkeypatch):
    ended = processes.SignalException("", signal.Signals[number])
    monkeypatch.setattr(processes, "elastic_launch", mock.Mock(return_value=mock.Mock(side_effect=ended)))
    with pytest.raises(raised):
        processes.launch(2, None)


def test_both_passes_over_a_chunk_draw_the_same(monkeypatch):
    """Random sampling of tokens: the vectors of the second pass, which carry the gradient, are those of the first."""
    run, seen = Run(SAMPLING, CPU), []
    encode = run.model.encode_video
    monkeypatch.setattr(run.model, "encode_video", lambda *arguments: seen.append(encode(*arguments)) or seen[-1])
    gradients(run, 2)
    assert len(seen) == 4
    assert torch.equal(seen[0], seen[2]) and torch.equal(seen[1], seen[3])


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
@pytest.mark.parametrize("units", [False, True])
def test_the_precision_is_a_gpus_but_bfloat16_where_a_cpu_has_units_for_it(monkeypatch, units):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": units})
    cuda = torch.device("cuda")
    for precision, dtype in (("float32", None), ("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        assert lowered(cuda, precision) is dtype and computed_in(cuda, precision).startswith(precision)
        if precision == "bfloat16" and units:
            assert lowered(CPU, precision) is dtype and computed_in(CPU, precision).startswith(precision)
        else:
            assert lowered(CPU, precision) is None and computed_in(CPU, precision) == "float32"
    assert autocast(cuda, "bfloat16").fast_dtype is torch.bfloat16
    cell = replace(CELL, training=replace(CELL.training, precision="bfloat16"))
    losses = [loop.train_step(Run(each, CPU), batch(0), 1.0) for each in (CELL, cell)]
    assert losses[1] == pytest.approx(losses[0], rel=0.05) and (losses[0] != losses[1]) == units
    assert not Run(CELL, CPU).scaler.is_enabled()  # only float16's gradients are scaled


def of_small_memory(run, monkeypatch):
    """The run, on a GPU that holds two videos."""
    encode = run.model.encode_video

    def small(frames, mask):
        if len(frames) > 2:
            raise torch.OutOfMemoryError
        return encode(frames, mask)

    monkeypatch.setattr(run.model, "encode_video", small)
    return run


def test_after_out_of_memory_a_run_resumes_to_equal_bytes(tmp_path, monkeypatch):
    """Of an algorithm that draws: the retry draws what the first try drew, and the chunk is in the checkpoint."""
    straight = of_small_memory(run_in(tmp_path / "straight", SAMPLING), monkeypatch)
    straight.train_epoch(Twelve())
    first = of_small_memory(run_in(tmp_path / "resumed", SAMPLING), monkeypatch)
    first.stop()
    with pytest.raises(UserError, match="stopped"):
        first.train_epoch(Twelve())
    second = run_in(tmp_path / "resumed", SAMPLING)
    second.resume()
    assert second.chunk == 2
    second.train_epoch(Twelve())
    for name, tensor in straight.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], tensor), name


def test_out_of_memory_halves_the_chunk_and_not_the_batch(monkeypatch):
    expected = Run(CELL, CPU)
    loss = loop.train_step(expected, batch(0), 1.0)
    run = of_small_memory(Run(CELL, CPU), monkeypatch)
    assert loop.train_step(run, batch(0), 1.0) == pytest.approx(loss, rel=1e-6)
    assert run.chunk == 2

    def none(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(run.model, "encode_video", none)
    with pytest.raises(UserError, match="does not hold the model and one video"):
        loop.train_step(run, batch(0), 1.0)


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ("visual.conv1.weight", "tokens to cluster are not finite"),
        ("visual.proj", "the loss is nan"),
        ("gradient", "the gradient's norm is nan"),
    ],
)
def test_a_number_that_is_not_finite_stops_before_it_changes_anything_and_names_the_videos(tmp_path, where, problem):
    run = run_in(tmp_path)
    run.save()
    if where == "gradient":
        run.model.ln_final.weight.register_hook(lambda gradient: gradient * torch.nan)
    else:
        with torch.no_grad():
            run.model.get_parameter(where).view(-1)[0] = torch.nan
    before = run.model.text_projection.clone()
    with pytest.raises(UserError) as error:
        run.train_epoch(Twelve())
    assert str(error.value) == (
        f"{problem} at epoch 1, step 1, on the videos video0, video1, video2, video3;"
        f" the last good checkpoint is {tmp_path / 'checkpoint.pt'}"
    )
    assert torch.equal(run.model.text_projection, before)


def test_a_scaler_leaves_steps_out_until_its_scale_is_1():
    run = Run(CELL, CPU)
    run.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    run.model.ln_final.weight.register_hook(lambda gradient: gradient * torch.nan)
    before = run.model.text_projection.clone()
    loop.train_step(run, batch(0), 1.0)
    assert run.scaler.get_scale() == 1 and torch.equal(run.model.text_projection, before)
    with pytest.raises(FloatingPointError, match="the gradient's norm is nan"):
        loop.train_step(run, batch(0), 1.0)


def test_sigterm_saves_a_checkpoint_after_the_step_and_stops(tmp_path):
    run = run_in(tmp_path)
    run.stop()
    with pytest.raises(UserError, match="stopped by SIGTERM; the checkpoint is saved"):
        run.train_epoch(Twelve())
    again = run_in(tmp_path)
    again.resume()
    assert again.progress["step"] == 1
    with pytest.raises(UserError, match="stopped by SIGTERM"):
        run.evaluate_epoch({}, None, 0)  # while the checkpoint at the epoch's end was written
    with pytest.raises(UserError, match="stopped by SIGTERM"):
        run.stop()  # while the epoch is evaluated


@pytest.mark.slow
class TestGoingOn:
    """A training stopped after its first step, the rest of which is done in another way."""

    @pytest.fixture(scope="class")
    def undisturbed(self):
        """The weights that an epoch leads to."""
        run = Run(CELL, CPU)
        run.train_epoch(Twelve())
        return run.model.state_dict()

    @pytest.fixture
    def stopped(self, tmp_path):
        """The directory of a training of one process that was stopped after its first step."""
        run = run_in(tmp_path)
        run.stop()
        with pytest.raises(UserError, match="stopped"):
            run.train_epoch(Twelve())
        return tmp_path

    def near(self, weights: dict, expected: dict) -> bool:
        """Whether weights are equal but for rounding: far less apart than a step at the peak learning rate changes."""
        apart = {name: (tensor - expected[name]).abs().max().item() for name, tensor in weights.items()}
        return max(apart.values()) < 0.02 * CELL.training.lr

    def test_in_the_same_way_ends_at_the_very_same_weights(self, stopped, undisturbed):
        run = run_in(stopped)
        run.resume()
        run.train_epoch(Twelve())
        assert all(torch.equal(tensor, undisturbed[name]) for name, tensor in run.model.state_dict().items())

    def test_in_chunks_and_with_recomputed_activations(self, stopped, undisturbed):
        run = run_in(stopped, chunk=1, grad_checkpointing=True, workers=1, checkpoint_minutes=99)
        run.resume()
        assert run.progress["step"] == 1
        run.train_epoch(Twelve())
        assert self.near(run.model.state_dict(), undisturbed)

    def test_in_two_processes(self, stopped, undisturbed):
        two_processes("epoch", stopped)
        for rank in (0, 1):
            assert self.near(torch.load(stopped / f"{rank}.pt"), undisturbed)


@pytest.mark.parametrize(("select", "chosen"), [("best", 3), ("val", 1), ("last", 4)])
def test_the_selected_epoch_is_the_later_of_equal_ones(select, chosen):
    run = Run(replace(CELL, training=replace(CELL.training, select=select)), CPU)
    for epoch, recall in enumerate((10.0, 30.0, 30.0, 20.0)):
        with torch.no_grad():
            run.model.logit_scale.fill_(epoch + 1)
        run.progress["losses"] = [1.0, 2.0]
        run.end_epoch({"text_to_video": {"R@1": recall}, "val": {"R@1": 50.0 - epoch}})
    assert run.selected["epoch"] == chosen and run.selected["weights"]["logit_scale"] == chosen
    assert run.progress["epochs"][0] == {"epoch": 1, "loss": 1.5, "text_to_video": {"R@1": 10.0}, "val": {"R@1": 50.0}}
    assert json.dumps(run.progress)


def test_waiting_for_data_names_the_remedy_from_a_fifth_of_the_time_on():
    assert loading(2.0, 8.0, workers=4) == "8.0 s in steps, 2.0 s waiting for data"
    assert loading(2.1, 8.0, workers=4).endswith("(training.workers is 4)")


def test_captions_longer_than_is_read_are_counted():
    """A common word is a token, and so are the start and the end."""
    captions, data = ["", "a dog", "a dog runs", "the old man"], CELL.data
    cells = [replace(CELL, data=replace(data, text_tokens=tokens)) for tokens in (3, 4, 5)]
    assert [count_cut(captions, cell) for cell in cells] == [3, 2, 0]


def test_videos_shorter_than_a_segment_are_counted_where_such_do_not_count():
    """6 frames in 2 segments: a segment has 3."""
    counts = {"a": 2, "b": 3, "c": 40}
    assert count_short("abc", counts, CELL) == 1
    assert count_short("abc", counts, tiny_cell(replace(STAGE, padded="keep"))) == 0
    assert count_short("abc", counts, tiny_cell()) == 0


@pytest.mark.slow
class TestCells:
    """Whole trainings, from stored frames."""

    @pytest.fixture
    def path(self, tmp_path):
        """A cell.json."""
        return write_cell(tmp_path / "results")

    @pytest.fixture(autouse=True)
    def sigterm(self):
        """What SIGTERM does is put back."""
        before = signal.getsignal(signal.SIGTERM)
        yield
        signal.signal(signal.SIGTERM, before)

    def interrupted(self, path, monkeypatch):
        """Begin to train, and be killed at the end of the first epoch."""

        def killed(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(loop, "evaluate", killed)
            self.train(path)

    def train(self, path, **runtime):
        cell = read_cell(path, runtime=Runtime(**runtime))
        return loop.train(cell, cell.path(layout.CHECKPOINTS), cell.path(layout.TENSORBOARD))

    def change(self, path, split):
        """Reword the captions of a split."""
        manifest = read_cell(path).path(layout.MANIFEST)
        lines = manifest.read_text().splitlines()
        changed = [line.replace("video number", "clip") if line.startswith(split) else line for line in lines]
        assert changed != lines
        manifest.write_text("\n".join(changed) + "\n")

    def test_its_history(self, path):
        weights, history = self.train(path)
        assert weights.keys() == build(CELL.model, 0).state_dict().keys()
        assert history["selected_epoch"] in (1, 2) and history["train_texts_cut"] == 0 and history["seconds"] > 0
        assert history["gpu_seconds"] == 0 and history["joules"] is None  # on a CPU
        assert [epoch["epoch"] for epoch in history["epochs"]] == [1, 2]
        assert all((epoch["n_texts"], epoch["n_videos"]) == (4, 4) for epoch in history["epochs"])

    def test_two_processes_evaluate_their_shares_to_the_metrics_of_one(self, path, tmp_path):
        two_processes("metrics", tmp_path, path)
        assert [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)] == [metrics(path)] * 2

    @pytest.mark.parametrize("select", ["best", "val"])
    def test_other_captions_to_train_on_or_select_by_set_a_checkpoint_aside(self, path, select, monkeypatch, capsys):
        cell = read_cell(path)
        settings = replace(cell, training=replace(cell.training, select=select)).settings()
        path.write_text(json.dumps(settings))
        for split, kept in (("test", True), ("val", select == "best"), ("train", False)):
            self.interrupted(path, monkeypatch)
            self.change(path, split)
            capsys.readouterr()
            self.train(path, chunk=2)
            output = capsys.readouterr()
            assert ("resuming after 0 epochs and 2 steps" in output.out) == kept
            assert ("checkpoint.pt was made with other data: training starts from" in output.err) == (not kept)
            checkpoints.remove(cell.path(layout.CHECKPOINTS))

    def test_nodes_that_do_not_share_their_checkpoints_say_so(self, path, monkeypatch):
        monkeypatch.setattr(processes, "gather", lambda start: torch.stack([start, start + 1]))
        with pytest.raises(UserError, match="checkpoints: the processes found different checkpoints"):
            self.train(path)

    def test_too_few_captions_for_a_batch(self, path):
        cell = read_cell(path)
        path.write_text(json.dumps(replace(cell, training=replace(cell.training, batch_size=10)).settings()))
        with pytest.raises(UserError, match=r"training has 9 captions, fewer than training\.batch_size, 10"):
            self.train(path)

    def test_a_cell_starts_from_weights_beside_its_results_wherever_it_is_trained(self, path, tmp_path):
        weights = build(Model("tiny"), 5).state_dict()
        torch.save(weights, tmp_path / "w.pt")
        path.write_text(json.dumps(replace(CELL, model=replace(CELL.model, weights="w.pt")).settings()))
        assert torch.equal(Run(read_cell(path), CPU).model.visual.proj, weights["visual.proj"])

    def command(self, *words, **options):
        words = [sys.executable, "-m", "centerclip", *map(str, words)]
        return subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, **options)

    def test_a_process_that_srun_started_with_others_needs_their_number(self, path, mistake, monkeypatch):
        """Else `srun` may have started trainings of a process each."""
        for name, value in srun(0).items():
            monkeypatch.setenv(name, value)
        expected = "error: --gpus is 1, but torchrun or srun started 2 processes together: give --gpus 2"
        assert mistake(cli.main, "train", path).startswith(expected)

    def test_the_commands(self, path, tmp_path):
        """One process beside the cell and two elsewhere; the evaluation of the first is that of the selected epoch."""
        for options in ((), ("--gpus", 2, "--out", tmp_path / "out", "--log", tmp_path / "out/log")):
            done = self.command("train", path, *options, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
        first, second = (load_file(directory / "weights.safetensors") for directory in (path.parent, tmp_path / "out"))
        assert all((tensor - second[name]).abs().max() < 1e-4 for name, tensor in first.items())
        written = {"cell.json", "checkpoints", "history.json", "tensorboard", "weights.safetensors"}
        assert {file.name for file in path.parent.iterdir()} == written
        assert {file.name for file in (tmp_path / "out").iterdir()} == written - {"cell.json"} | {"log", "log.1"}
        assert (path.parent / "checkpoints/checkpoint.pt").exists()
        done = self.command("evaluate", path, "--batch-size", 3)
        assert done.returncode == 0, done.stderr
        assert [file.name for file in (path.parent / "checkpoints").iterdir()] == ["lock"]
        result = json.loads(path.with_name("evaluation.json").read_text())
        assert result["settings"] == CELL.settings() | {"precision": "float32"} and "cost" not in result
        assert all(result[count] == 0 for count in ("n_texts_cut", "n_videos_short", "n_videos_left_out"))
        assert result["n_texts_left_out"] == 0 and result["provenance"]["precision"] == "float32"
        assert datetime.fromisoformat(result["provenance"]["evaluated"]).tzinfo == UTC
        assert len(bytes.fromhex(result["provenance"]["data_revision"])) == 8
        epochs = result["training"]["epochs"]
        assert result["text_to_video"] == epochs[result["training"]["selected_epoch"] - 1]["text_to_video"]
        assert read_cell(path.with_name("evaluation.json")).settings() == CELL.settings()

    @pytest.mark.parametrize(
        ("words", "problem"),
        [
            (("train", "none.json"), "none.json: No such file or directory"),
            (("train", "{}", "--gpus", 3), "--gpus 3 does not divide training.batch_size 4"),
            (("train", "{}-untrained"), "its variant has `train: false`: there is nothing to train"),
            (("evaluate", "{}"), "weights.safetensors: no such file"),
        ],
    )
    def test_mistakes_are_one_line(self, path, words, problem, mistake):
        path.with_name("cell.json-untrained").write_text(json.dumps(replace(CELL, training=None).settings()))
        line = mistake(cli.main, *(str(word).format(path) for word in words))
        assert line.startswith("error: ") and line.endswith(problem)
