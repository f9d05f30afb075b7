"""Training of one cell: stored frames and captions -> weights and the history of its epochs.

Frames, order and learning rate depend only on the seed and the step. So a killed training continues from its last
checkpoint to the same weights; on a GPU they may differ by rounding.
"""

import math
import resource
import shutil
import signal
import sys
import time
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from centerclip.backbones import has_bias
from centerclip.backbones.clip import CenterCLIP, build, freeze
from centerclip.backbones.device import autocast, computed_in, joules, lowered, pick_device
from centerclip.backbones.low_rank import adapt, merged_state
from centerclip.command import UserError, first_line, handled
from centerclip.data.video.batches import Pairs, leave_sigterm, loading_told, normalise, stored
from centerclip.data.video.frames import FrameStore
from centerclip.evaluate.features import count_cut, evaluate
from centerclip.method.maxsim import maxsim
from centerclip.settings import layout
from centerclip.settings.cell import Cell
from centerclip.settings.schema import Training
from centerclip.train import processes
from centerclip.train.checkpoints import Checkpoints, origin

STOPPED = "stopped by SIGTERM; the checkpoint is saved, the same command goes on from it"
SPENT = ("gpu_seconds", "joules")  # of all GPUs and sessions; nan where it is not known
FULL = "a GPU's memory was full while it sent gradients; set a smaller training.chunk, the same command goes on"


def train(cell: Cell, checkpoints: Path, tensorboard: Path) -> tuple[dict[str, Tensor], dict]:
    """Train a cell, from the last checkpoint in the directory `checkpoints` if it can be resumed. Returns the selected
    epoch's weights and the history. Scalars go to the directory `tensorboard`. Epochs are evaluated in the precision of
    `cell`: float32 in the command `train`, whatever `evaluation.precision` is.

    Raises:
        UserError: a split without captions, fewer captions than a batch, weights that do not fit, or a number that is
            not finite.
    """
    _, store, splits = stored(cell, cell.splits, thorough=True)
    rows = splits["train"][splits["train"]["caption"] != ""]
    steps = len(rows) // cell.training.batch_size  # an epoch
    if steps == 0:
        size = cell.training.batch_size
        raise UserError(f"training has {len(rows)} captions, fewer than training.batch_size, {size}")
    device = processes.join(pick_device)
    computed = computed_in(device, cell.training.precision)
    print(f"training on {device} in {computed}, process {processes.rank() + 1} of {processes.world()}")
    used = pd.concat([rows, *([splits["val"]] if "val" in splits else [])])
    run = Run(cell, device, Checkpoints(checkpoints, origin(cell, used, cell.path(layout.FRAMES))))
    run.resume()
    starts = processes.gather(torch.tensor([run.progress["epoch"], run.progress["step"]], device=device))
    if (starts != starts[0]).any():
        raise UserError(f"{checkpoints}: the processes found different checkpoints; all nodes must share this folder")
    if processes.rank() == 0:
        run.board = open_board(tensorboard, run.progress["epoch"] * steps + run.progress["step"])
    with handled(signal.SIGTERM, run.stop):
        for epoch in range(run.progress["epoch"], cell.training.epochs):
            run.train_epoch(Pairs(rows, store, cell, epoch))
            run.save()
            run.evaluate_epoch(splits, store, (epoch + 1) * steps - 1)
            run.save()
    history = {
        "select": cell.training.select,
        "selected_epoch": run.selected["epoch"],
        "seconds": run.progress["seconds"],
        **{key: None if math.isnan(run.progress[key]) else run.progress[key] for key in SPENT},
        "peak_memory": peak_memory(run.device),
        "train_texts_cut": count_cut(rows["caption"], cell),
        "epochs": run.progress["epochs"],
    }
    return run.selected["weights"], history


class Run:
    """A training: model, optimiser, progress, and how many pairs the memory holds at a time (`chunk`)."""

    def __init__(self, cell: Cell, device: torch.device, checkpoints: Checkpoints | None = None):
        self.cell, self.recipe, self.device, self.checkpoints = cell, cell.training, device, checkpoints
        self.model = build(cell.located_model, cell.seed, cell.data.image_size).to(device)
        prepare(self.model, self.recipe)
        if cell.runtime.grad_checkpointing:  # a text side of transformers takes False for True
            self.model.set_grad_checkpointing()
        # Weights trained with a bias may have a scale above CLIP's 100
        self.largest_scale = max(math.log(100), self.model.logit_scale.item() if has_bias(cell.model.backbone) else 0)
        self.averaged = processes.averaged(self.model)
        groups = parameter_groups(self.model, self.recipe)
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=self.recipe.betas, eps=self.recipe.eps)
        # float16 needs its gradients scaled; bfloat16 and float32 do not
        self.scaler = torch.amp.GradScaler(enabled=lowered(device, self.recipe.precision) is torch.float16)
        self.chunk = cell.runtime.chunk or self.recipe.batch_size  # pairs encoded at a time, fewer if memory is short
        self.rehearsed = None  # the chunk of a step that every process had memory for
        self.progress = {"epoch": 0, "step": 0, "losses": [], "seconds": 0.0, "epochs": []} | dict.fromkeys(SPENT, 0.0)
        self.selected = {"epoch": None, "weights": {}}
        self.saved_at, self.joules_at = time.monotonic(), joules(device)
        self.stopping, self.evaluating = False, False
        self.board = None  # where scalars are written, a SummaryWriter

    def save(self) -> None:
        """Write a checkpoint."""
        now, energy = time.monotonic(), joules(self.device)
        gpus = processes.world() if self.device.type == "cuda" else 0
        self.progress["seconds"] += now - self.saved_at
        self.progress["gpu_seconds"] += gpus * (now - self.saved_at)
        self.progress["joules"] += gpus * (energy - self.joules_at)  # each takes as much: their work is equal
        self.saved_at, self.joules_at = now, energy
        if self.board:
            self.board.flush()
        state = {part: getattr(self, part).state_dict() for part in ("model", "optimizer", "scaler")}
        self.checkpoints.save(state | {"progress": self.progress, "selected": self.selected, "chunk": self.chunk})

    def resume(self) -> None:
        """Continue from the last checkpoint, if it can be resumed."""
        state = self.checkpoints.resume(self.device)
        if state is None:
            return
        try:
            for part in ("model", "optimizer", "scaler"):
                if state[part]:  # the scaler's is empty where the precision needed none
                    getattr(self, part).load_state_dict(state[part])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            line = f"its {part} is not this cell's ({first_line(error)}); delete it to go on from the one before it"
            raise UserError(f"{self.checkpoints.last}: {line}") from None
        self.progress = dict.fromkeys(SPENT, math.nan) | state["progress"]  # an earlier version did not count them
        self.selected = state["selected"]
        self.chunk = min(self.chunk, state["chunk"])
        print(f"resuming after {self.progress['epoch']} epochs and {self.progress['step']} steps")

    def stop(self, *_) -> None:
        """On SIGTERM, stop after the current step and a checkpoint; during an evaluation, at once."""
        if self.evaluating:
            raise UserError(STOPPED)
        self.stopping = True

    def note(self, step: int, scalars: dict[str, float]) -> None:
        """Write `scalars` to TensorBoard."""
        if self.board:
            for name, value in scalars.items():
                self.board.add_scalar(name, value, step)

    @loading_told()
    def train_epoch(self, pairs: Pairs) -> None:
        """Train on the rest of the current epoch's `pairs`, and save a checkpoint every `checkpoint_minutes`."""
        name = f"train: epoch {pairs.epoch + 1}/{self.recipe.epochs}"
        batches, done = pairs.batches(self.recipe.batch_size), self.progress["step"]
        size = self.recipe.batch_size // processes.world()  # of a process's share of a batch
        loader = DataLoader(
            pairs,
            batch_sampler=[batch[processes.rank() * size :][:size] for batch in batches[done:]],
            num_workers=self.cell.runtime.workers,
            worker_init_fn=leave_sigterm,
            pin_memory=self.device.type == "cuda",
        )
        self.model.train()
        ready, waited, worked = time.perf_counter(), 0.0, 0.0  # seconds the device had no data, and had
        with tqdm(loader, name, len(batches), initial=done, unit="step") as bar:
            for members, batch in zip(batches[done:], bar, strict=True):
                arrived = time.perf_counter()
                step = pairs.epoch * len(batches) + self.progress["step"]
                factor = learning_rate_factor(step, self.recipe.epochs * len(batches), self.recipe.warmup)
                try:
                    loss = train_step(self, batch, factor, seed=self.cell.seed << 32 | step)
                except FloatingPointError as error:
                    videos = ", ".join(pairs.video_ids[index] for index in members)
                    where = f"at epoch {pairs.epoch + 1}, step {self.progress['step'] + 1}, on the videos {videos}"
                    last = self.checkpoints.last
                    kept = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint yet"
                    raise UserError(f"{error} {where}; {kept}") from None
                self.progress["step"] += 1
                self.progress["losses"].append(loss)
                data, lr, ready = arrived - ready, factor * self.recipe.lr, time.perf_counter()
                waited, worked = waited + data, worked + ready - arrived
                self.note(step, {"loss": loss, "lr": lr, "seconds/data": data, "seconds/step": ready - arrived})
                bar.set_postfix(loss=f"{loss:.3f}", lr=f"{lr:.1e}", waiting=f"{waited / (waited + worked):.0%}")
                self.stopping = processes.any_over_ranks(self.stopping, self.device)
                if self.stopping or time.monotonic() - self.saved_at > 60 * self.cell.runtime.checkpoint_minutes:
                    self.save()
                if self.stopping:
                    raise UserError(STOPPED)
        print(f"{name}: {loading(waited, worked, self.cell.runtime.workers)}", flush=True)

    def evaluate_epoch(self, splits: dict[str, pd.DataFrame], store: FrameStore, step: int) -> None:
        """Evaluate the model on the test split and, if needed, on `val`, after the epoch's last `step` is saved."""
        self.evaluating = True
        if self.stopping:  # SIGTERM came while the checkpoint was written
            raise UserError(STOPPED)
        metrics = evaluate(self.model, splits["test"], store, self.cell)
        if "val" in splits:
            metrics["val"] = evaluate(self.model, splits["val"], store, self.cell)["text_to_video"]
        self.evaluating = False
        self.end_epoch(metrics)
        recalls = {f"R@1/{direction}": metrics[direction]["R@1"] for direction in ("text_to_video", "video_to_text")}
        self.note(step, recalls)  # a resumed run writes from the next step on

    def end_epoch(self, metrics: dict) -> None:
        """Note the epoch's loss and metrics, and keep its weights if it is the selected one so far: the last of equal
        epochs, as in the authors' code."""
        judge = "val" if self.recipe.select == "val" else "text_to_video"
        before = [epoch[judge]["R@1"] for epoch in self.progress["epochs"]]
        losses, number = self.progress["losses"], self.progress["epoch"] + 1
        self.progress["epochs"].append({"epoch": number, "loss": sum(losses) / len(losses), **metrics})
        if self.recipe.select == "last" or metrics[judge]["R@1"] >= max(before, default=0):
            weights = {name: tensor.cpu().clone() for name, tensor in merged_state(self.model).items()}
            self.selected = {"epoch": number, "weights": weights}
        self.progress |= {"epoch": number, "step": 0, "losses": []}


def train_step(run: Run, batch: list[Tensor], factor: float, seed: int = 0) -> float:
    """Make one step at `factor` of the peak learning rate; returns the loss. `batch` is this process's share: frames
    uint8 [B, T, 3, H, W], their mask bool [B, T] and token ids int64 [B, L]. The model draws its random numbers from
    `seed`, in every process and chunk.

    If the memory of a GPU is full, all processes halve the chunk; loss and gradients stay the same. No process can
    leave a pass that sends gradients. So the first step with a chunk is rehearsed without sending.

    Raises:
        UserError: a GPU does not hold a single pair, or its memory is full while it sends gradients.
        FloatingPointError: tokens, the loss or the gradient are not finite; nothing is changed.
    """
    batch = [tensor.to(run.device, non_blocking=True) for tensor in batch]
    while True:
        try:
            if processes.world() > 1 and run.rehearsed != run.chunk:
                with run.averaged.no_sync():
                    processes.fail_together(lambda: backward(run, batch, seed), run.device)
                run.rehearsed = run.chunk
            loss = backward(run, batch, seed)
            break
        except torch.OutOfMemoryError:
            if run.chunk == 1:
                raise UserError("the GPU's memory does not hold the model and one video") from None
        run.chunk = (min(run.chunk, len(batch[0])) + 1) // 2  # outside the handler, whose traceback holds memory
        torch.cuda.empty_cache()
        tqdm.write(f"out of memory: encoding the batch {run.chunk} pairs at a time from now on")
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss}")
    run.scaler.unscale_(run.optimizer)
    norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), run.recipe.clip_norm).item()
    if not math.isfinite(norm) and run.scaler.get_scale() <= 1:  # the scaler leaves out steps of too large a scale
        raise FloatingPointError(f"the gradient's norm is {norm}")
    for group in run.optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
    run.scaler.step(run.optimizer)
    run.scaler.update()
    with torch.no_grad():
        run.model.logit_scale.clamp_(max=run.largest_scale)
    return loss


def backward(run: Run, batch: list[Tensor], seed: int) -> float:
    """Set the model's gradients to those of the loss over the batch of all processes; returns the loss. Arguments are
    as in `train_step`.

    The loss needs the vectors of all processes, and gives each process the gradient of its own vectors. A share larger
    than the chunk is encoded twice, at first without a graph, then chunk by chunk with one (gradient caching): one more
    forward pass, but the memory of one chunk. Only the last backward pass sends gradients.
    """
    run.optimizer.zero_grad(set_to_none=True)
    count, model = len(batch[0]), run.model
    *parts, last = [slice(start, start + run.chunk) for start in range(0, count, run.chunk)]

    def encode(part: slice) -> Tensor:
        torch.manual_seed(seed)
        frames, mask, ids = (tensor[part] for tensor in batch)
        with autocast(run.device, run.recipe.precision):
            videos = model.video_vectors(normalise(frames, run.cell.data.images), mask)
            texts = model.encode_text(ids)
        return torch.cat([videos.view(len(texts), -1, texts.shape[1]).transpose(0, 1), texts[None]])  # [k + 1, B, E]

    def encode_all() -> Tensor:
        with torch.set_grad_enabled(not parts):
            return torch.cat([encode(part) for part in [*parts, last]], 1)

    def all_but_last_backward_pass() -> Tensor:
        with run.averaged.no_sync():
            for part in parts:
                run.averaged(encode(part)).backward(gradient[:, part])
        return encode(last)

    vectors = processes.fail_together(encode_all, run.device)
    gathered = processes.gather(vectors.detach()).transpose(0, 1).flatten(1, 2).requires_grad_()
    learned = [model.logit_scale, *([model.logit_bias] if run.recipe.loss == "sigmoid" else [])]
    loss = contrastive_loss(gathered[:-1].transpose(0, 1), gathered[-1], *learned)
    leaves = [leaf for leaf in (gathered, *learned) if leaf.requires_grad]
    for leaf, gradient in zip(leaves, torch.autograd.grad(run.scaler.scale(loss), leaves), strict=True):
        leaf.grad = gradient
    gradient = gathered.grad
    gradient = gradient[:, processes.rank() * count :][:, :count] * processes.world()  # `averaged` divides by it
    if parts:
        vectors = processes.fail_together(all_but_last_backward_pass, run.device)
    try:
        run.averaged(vectors).backward(gradient[:, last])
    except torch.OutOfMemoryError:
        if not run.averaged.require_backward_grad_sync:
            raise
        raise UserError(FULL) from None  # other processes wait for the rest of the gradients
    return loss.item()


def contrastive_loss(videos: Tensor, texts: Tensor, logit_scale: Tensor, logit_bias: Tensor | None = None) -> Tensor:
    """The loss of unit vectors videos [B, E], or [B, k, E] as `maxsim` takes them, and their texts [B, E]: symmetric
    cross entropy (paper, equation 4) or, with a bias, the loss of SigLIP (Zhai et al., ICCV 2023)."""
    logits = maxsim(logit_scale.exp() * videos, texts)
    if logit_bias is not None:
        signs = 2 * torch.eye(len(logits), device=logits.device) - 1
        return -F.logsigmoid(signs * (logits + logit_bias)).sum() / len(logits)
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def learning_rate_factor(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at `step`, from 0, of `steps`: linear from 0 over the first `warmup` share, then
    cosine to 0. As in the authors' code, the first step changes no weight."""
    rising = warmup * steps
    if step < rising:
        return step / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def prepare(model: CenterCLIP, recipe: Training) -> None:
    """Make those parameters of a model trainable that `recipe` trains, and freeze the others."""
    if recipe.tune == "lora":
        adapt(model, recipe.rank, recipe.where)
    else:
        freeze(model, recipe.frozen)


def parameter_groups(model: CenterCLIP, recipe: Training) -> list[dict]:
    """AdamW's groups of the parameters that train: those of stages at `lr_new`, all others at `lr`, each with and
    without weight decay."""
    groups = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim >= 2 if recipe.no_decay == "vectors" else "bias" not in name
            groups.setdefault((name.startswith("stages."), decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "peak_lr": recipe.lr_new if new else recipe.lr,
            "weight_decay": recipe.weight_decay if decays else 0.0,
        }
        for (new, decays), parameters in groups.items()
    ]


def loading(waited: float, worked: float, workers: int) -> str:
    """A line on the seconds of an epoch; with a remedy if the device waited for data in more than a fifth of them."""
    line = f"{worked:.1f} s in steps, {waited:.1f} s waiting for data"
    if waited <= 0.2 * (waited + worked):
        return line
    return f"{line}: more processes would load it faster, each on a core of its own (training.workers is {workers})"


def open_board(directory: Path, step: int) -> SummaryWriter:
    """A writer of TensorBoard's scalars from `step` on, which hides earlier scalars of these steps."""
    if step == 0:
        shutil.rmtree(directory, ignore_errors=True)
    return SummaryWriter(directory, purge_step=step)


def peak_memory(device: torch.device) -> dict:
    """Peak memory of the training process in bytes, and of what kind."""
    if device.type == "cuda":
        return {"bytes": torch.cuda.max_memory_allocated(device), "kind": "GPU, allocated"}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"bytes": unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "kind": "CPU, resident"}
