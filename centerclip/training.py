"""Training of one cell: stored frames + captions -> weights and the history of its epochs.

Killed at any moment, the same command goes on from the last checkpoint and ends at the same weights: frames, order
and learning rate are functions of the seed and the step alone.
"""

import argparse
import errno
import fcntl
import hashlib
import json
import math
import os
import resource
import shutil
import signal
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from centerclip import processes
from centerclip.config import joined
from centerclip.dataset import Pairs, leave_sigterm, normalise
from centerclip.evaluation import autocast, count_cut, evaluate, precision, usable
from centerclip.frames import FrameStore
from centerclip.manifest import read_manifest
from centerclip.model import CenterCLIP, build, pick_device
from centerclip.stage import UserError, atomic, first_line, positive, run, write_json
from centerclip.weights import save_weights

CHECKPOINT, PREVIOUS = "checkpoint.pt", ".previous.pt"
STOPPED = "stopped by SIGTERM; the checkpoint is saved, the same command goes on from it"


def contrastive_loss(videos: Tensor, texts: Tensor, logit_scale: Tensor) -> Tensor:
    """Symmetric cross entropy (paper, equation 4) over unit vectors videos, texts [B, E] that pair up by index."""
    logits = logit_scale.exp() * videos @ texts.T
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def learning_rate_factor(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at `step` of `steps`: linear over the first `warmup` share, then cosine to 0."""
    rising = warmup * steps
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def parameter_groups(model: CenterCLIP, recipe: dict) -> list[dict]:
    """AdamW's groups: CLIP's parameters at `lr`, new ones at `lr_new`, each with and without weight decay.

    Biases and LayerNorm's weights, all the one-dimensional parameters, and the logit scale are not decayed.
    """
    groups = {}
    for name, parameter in model.named_parameters():
        new, decays = name.startswith("cluster_embeddings."), parameter.ndim >= 2
        groups.setdefault((new, decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "peak_lr": recipe["lr_new"] if new else recipe["lr"],
            "weight_decay": recipe["weight_decay"] if decays else 0.0,
        }
        for (new, decays), parameters in groups.items()
    ]


def train_step(run: "Run", batch: list[Tensor], factor: float) -> float:
    """One step at `factor` of the peak learning rate; returns the loss. `batch` (frames, mask, ids) is this process's
    share of the step's.

    A GPU that runs out of memory gets the batch in chunks half as large, of which the loss and the gradients are the
    same.

    Raises:
        UserError: a single pair is too much for the GPU.
        FloatingPointError: tokens, the loss or the gradient are not finite; nothing is changed.
    """
    batch = [tensor.to(run.device, non_blocking=True) for tensor in batch]
    while True:
        run.optimizer.zero_grad(set_to_none=True)
        try:
            loss = backward(run.model, batch, run.chunk, run.scaler)
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
    norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), run.recipe["clip_norm"]).item()
    if not (math.isfinite(norm) or run.scaler.is_enabled()):  # the scaler leaves such a step out by itself
        raise FloatingPointError(f"the gradient's norm is {norm}")
    for group in run.optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
    run.scaler.step(run.optimizer)
    run.scaler.update()
    with torch.no_grad():
        run.model.logit_scale.clamp_(max=math.log(100))
    return loss


def backward(model: CenterCLIP, batch: list[Tensor], chunk: int, scaler: torch.amp.GradScaler) -> float:
    """Add the gradients of the loss to the model's; returns the loss. `batch` is this process's share of the step's
    batch; loss and gradients are those of all of it.

    All vectors meet in the loss, which gives the gradient of each; every process takes its own further, into the
    encoders, and the encoders' gradients are added up. A share larger than `chunk` is encoded without a graph first
    and then again, chunk by chunk, with one (gradient caching). That costs one more forward pass and the memory of one
    chunk; the second pass draws what the first drew.
    """
    frames, mask, ids = batch
    device, count = frames.device, len(frames)
    parts = [slice(start, start + chunk) for start in range(0, count, chunk)]
    seeds = torch.randint(2**62, (len(parts),)).tolist()

    def encode(part: slice, seed: int) -> Tensor:
        torch.manual_seed(seed)
        with autocast(device):
            videos = model.encode_video(normalise(frames[part]), mask[part])
            return torch.stack([videos, model.encode_text(ids[part])])

    def encode_all() -> Tensor:
        with torch.set_grad_enabled(len(parts) == 1):
            return torch.cat([encode(part, seed) for part, seed in zip(parts, seeds, strict=True)], 1)

    vectors = processes.everywhere(encode_all, device)
    everyones = processes.gather(vectors.detach()).requires_grad_()
    loss = contrastive_loss(*everyones, model.logit_scale)
    scaler.scale(loss).backward()
    gradient = everyones.grad[:, processes.rank() * count :][:, :count]

    def differentiate() -> None:
        if len(parts) == 1:
            vectors.backward(gradient)
        else:
            for part, seed in zip(parts, seeds, strict=True):
                encode(part, seed).backward(gradient[:, part])

    processes.everywhere(differentiate, device)
    shares = [parameter.grad for parameter in model.parameters() if parameter is not model.logit_scale]
    processes.add_up([share for share in shares if share is not None])
    return loss.item()


def fingerprint(settings: dict, *files: Path) -> str:
    """What a checkpoint must have been made from to be resumed: settings, and files of data and code."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()


@contextmanager
def sole_owner(directory: Path):
    """Hold `directory` for this process, so that two runs never write one checkpoint. Raises UserError if held."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{directory}: another process is training this cell; wait for it or stop it") from None
        yield


def peak_memory(device: torch.device) -> dict:
    """Peak memory of the training process in bytes, and of what kind."""
    if device.type == "cuda":
        return {"bytes": torch.cuda.max_memory_allocated(device), "kind": "GPU, allocated"}
    return {"bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "kind": "CPU, resident"}


def of_the_bytes(error: Exception) -> bool:
    """Whether an error of torch.load means that the file is damaged. Bytes that are no checkpoint may raise anything,
    EINVAL among it; a disk that does not answer or a full memory says nothing of the file."""
    if isinstance(error, OSError):
        return error.errno == errno.EINVAL
    return not isinstance(error, MemoryError)


class Run:
    """One training run: model, optimiser and progress, which is what a checkpoint holds."""

    def __init__(self, settings: dict, origin: str, device: torch.device):
        self.settings, self.recipe, self.origin, self.device = settings, settings["training"], origin, device
        self.model = build(
            settings["backbone"], settings["stages"], settings["shift"], settings["weights"], settings["seed"]
        ).to(device)
        self.model.set_grad_checkpointing(self.recipe["grad_checkpointing"])
        groups = parameter_groups(self.model, self.recipe)
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=tuple(self.recipe["betas"]), eps=self.recipe["eps"])
        # float16 needs its gradients scaled; bfloat16 and float32 do not
        self.scaler = torch.amp.GradScaler(enabled=autocast(device).fast_dtype is torch.float16)
        self.chunk = self.recipe["chunk"] or self.recipe["batch_size"]  # pairs encoded at a time
        self.progress = {"epoch": 0, "step": 0, "losses": [], "seconds": 0.0, "epochs": []}
        self.selected = {"epoch": None, "weights": {}}
        self.saved_at = time.monotonic()
        self.stopping, self.evaluating = False, False
        self.board = None  # where scalars are written, a SummaryWriter

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all; the one before it stays beside it. Only the first process does.

        Raises:
            UserError: it cannot be written.
        """
        now = time.monotonic()
        self.progress["seconds"] += now - self.saved_at
        self.saved_at = now
        if processes.rank():
            return
        state = {
            "origin": self.origin,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "progress": self.progress,
            "selected": self.selected,
        }
        try:
            if self.board:
                self.board.flush()
            with atomic(path) as temporary:
                torch.save(state, temporary)
                if path.exists():
                    os.replace(path, path.with_suffix(PREVIOUS))
        except (OSError, RuntimeError) as error:  # torch has its own words for a full disk
            # weights, AdamW's two moments, and the selected epoch's weights
            megabytes = 4 * 4e-6 * sum(parameter.numel() for parameter in self.model.parameters())
            line = f"cannot write the checkpoint, which needs up to {megabytes:.0f} MB: {first_line(error)}"
            raise UserError(f"{path}: {line}; the last is intact") from None

    def resume(self, path: Path) -> None:
        """Go back to the checkpoint at `path`, or to the one before it if that is damaged, if there is one of the same
        settings, data and code."""
        for candidate in (path, path.with_suffix(PREVIOUS)):
            if not candidate.exists():
                continue
            try:
                saved = torch.load(candidate, map_location="cpu", weights_only=True)
            except Exception as error:
                if not of_the_bytes(error):
                    raise
                print(f"warning: {candidate} is damaged ({type(error).__name__}); looking for the one before it")
                continue
            if saved["origin"] != self.origin:
                print("the checkpoint is of other settings, data or code: starting anew")
                return
            for part in ("model", "optimizer", "scaler"):
                if saved[part]:  # the scaler's is empty where the precision needed none
                    getattr(self, part).load_state_dict(saved[part])
            self.progress, self.selected = saved["progress"], saved["selected"]
            print(f"resuming after {self.progress['epoch']} epochs and {self.progress['step']} steps")
            return

    def note(self, step: int, scalars: dict[str, float]) -> None:
        """Write `scalars` for TensorBoard."""
        if self.board:
            for name, value in scalars.items():
                self.board.add_scalar(name, value, step)

    def train_epoch(self, pairs: Pairs, checkpoint: Path) -> None:
        """Train on the rest of the current epoch's `pairs`, saving checkpoints by time.

        Raises:
            UserError: a number is not finite, or somebody asked the process to end (SIGTERM).
        """
        batches = pairs.batches(self.recipe["batch_size"])
        share = self.recipe["batch_size"] // processes.world()
        own = slice(processes.rank() * share, (processes.rank() + 1) * share)
        loader = DataLoader(
            pairs,
            batch_sampler=[batch[own] for batch in batches[self.progress["step"] :]],
            num_workers=self.recipe["workers"],
            worker_init_fn=leave_sigterm,
            pin_memory=self.device.type == "cuda",
        )
        name = f"train: epoch {pairs.epoch + 1}/{self.recipe['epochs']}"
        self.model.train()
        asked, waited, worked = time.perf_counter(), 0.0, 0.0  # seconds the device had no data, and had
        with tqdm(loader, name, len(batches), initial=self.progress["step"], unit="step") as bar:
            for batch in bar:
                arrived = time.perf_counter()
                step = pairs.epoch * len(batches) + self.progress["step"]
                # of what the model draws, however it got here
                torch.manual_seed(self.settings["seed"] << 32 | processes.rank() << 24 | step)
                factor = learning_rate_factor(step, self.recipe["epochs"] * len(batches), self.recipe["warmup"])
                try:
                    loss = train_step(self, batch, factor)
                except FloatingPointError as error:
                    names = ", ".join(pairs.video_ids[index] for index in batches[self.progress["step"]])
                    where = f"at epoch {pairs.epoch + 1}, step {self.progress['step'] + 1}"
                    kept = f"the last good checkpoint is {checkpoint}" if checkpoint.exists() else "no checkpoint yet"
                    raise UserError(f"{error} {where}, on the videos {names}; {kept}") from None
                self.progress["step"] += 1
                self.progress["losses"].append(loss)
                data, asked = arrived - asked, time.perf_counter()
                waited, worked, lr = waited + data, worked + asked - arrived, factor * self.recipe["lr"]
                self.note(step, {"loss": loss, "lr": lr, "seconds/data": data, "seconds/step": asked - arrived})
                bar.set_postfix(loss=f"{loss:.3f}", lr=f"{lr:.1e}", waiting=f"{waited / (waited + worked):.0%}")
                self.stopping = processes.anywhere(self.stopping, self.device)
                if self.stopping or time.monotonic() - self.saved_at > 60 * self.recipe["checkpoint_minutes"]:
                    self.save(checkpoint)
                if self.stopping:
                    raise UserError(STOPPED)
        print(f"{name}: {worked:.1f} s in steps, {waited:.1f} s waiting for data", flush=True)

    def stop(self, *_) -> None:
        """What SIGTERM asks for: stop after the current step and a checkpoint, at once where the last is up to date."""
        if self.evaluating:
            raise UserError(STOPPED)
        self.stopping = True

    def end_epoch(self, metrics: dict) -> None:
        """Note the epoch's loss and metrics, and keep its weights if they are the ones to select so far."""
        by = "val" if self.settings["select"] == "val" else "text_to_video"
        before = [epoch[by]["R@1"] for epoch in self.progress["epochs"]]
        losses, number = self.progress["losses"], self.progress["epoch"] + 1
        self.progress["epochs"].append({"epoch": number, "loss": sum(losses) / len(losses), **metrics})
        if self.settings["select"] == "last" or metrics[by]["R@1"] > max(before, default=-1):
            weights = {name: tensor.cpu().clone() for name, tensor in self.model.state_dict().items()}
            self.selected = {"epoch": number, "weights": weights}
        self.progress |= {"epoch": number, "step": 0, "losses": []}


def open_board(directory: Path, step: int) -> SummaryWriter:
    """Where TensorBoard's scalars go on from `step`; what was written from there on is void."""
    if step == 0:
        shutil.rmtree(directory, ignore_errors=True)
    return SummaryWriter(directory, purge_step=step)


def train(
    settings: dict, origin: str, manifest_path: Path, report: Path, directory: Path
) -> tuple[dict[str, Tensor], dict]:
    """Train a cell, keeping its checkpoint in `directory`, to resume where `origin` is the same; returns the selected
    epoch's weights and the history.

    Raises:
        UserError: a split without captions, fewer than a batch to train on, weights that do not fit, or a number that
            is not finite.
    """
    manifest, store = read_manifest(manifest_path), FrameStore(report)
    test, rows = usable(manifest, store, "test"), usable(manifest, store, "train")
    val = usable(manifest, store, "val") if settings["select"] == "val" else None
    rows = rows[rows["caption"] != ""]
    if len(rows) < settings["training"]["batch_size"]:
        size = settings["training"]["batch_size"]
        raise UserError(f"training has {len(rows)} captions, fewer than training.batch_size, {size}")
    steps = len(rows) // settings["training"]["batch_size"]  # an epoch
    device, checkpoint = processes.join(pick_device()), directory / CHECKPOINT
    print(f"training on {device} in {precision(device)}, process {processes.rank() + 1} of {processes.world()}")
    run = Run(settings, origin, device)
    run.resume(checkpoint)
    processes.anywhere(False, device)  # all have read the checkpoint before one writes the next
    signal.signal(signal.SIGTERM, run.stop)
    if processes.rank() == 0:
        run.board = open_board(directory.parent / "tensorboard", run.progress["epoch"] * steps + run.progress["step"])
    for epoch in range(run.progress["epoch"], settings["training"]["epochs"]):
        pairs = Pairs(rows, store, settings["frames"], settings["words"], settings["seed"], epoch)
        run.train_epoch(pairs, checkpoint)
        run.save(checkpoint)
        run.evaluating = True
        metrics = evaluate(run.model, test, store, settings)
        if val is not None:
            metrics["val"] = evaluate(run.model, val, store, settings)["text_to_video"]
        run.evaluating = False
        run.end_epoch(metrics)
        recalls = {f"R@1/{way}": metrics[way]["R@1"] for way in ("text_to_video", "video_to_text")}
        run.note((epoch + 1) * steps - 1, recalls)  # at the epoch's last step: a resumed run writes from the next on
        run.save(checkpoint)
    history = {
        "select": settings["select"],
        "selected_epoch": run.selected["epoch"],
        "seconds": run.progress["seconds"],
        "peak_memory": peak_memory(run.device),
        "train_texts_cut": count_cut(rows["caption"], settings["words"]),
        "epochs": run.progress["epochs"],
    }
    return run.selected["weights"], history


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.training", description=__doc__)
    parser.add_argument("--settings", required=True, type=json.loads, help="the cell's resolved settings, json")
    parser.add_argument("--conduct", default={}, type=json.loads, help="those of them that change no result, json")
    parser.add_argument("--code", nargs="*", default=[], type=Path, help="files whose change makes checkpoints void")
    parser.add_argument("--manifest", required=True, type=Path)
    parser.add_argument("--frames", required=True, type=Path, help="the report of the stored frames")
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--checkpoints", required=True, type=Path, help="directory of the checkpoint to resume from")
    parser.add_argument("--weights", required=True, type=Path, help="the weights to write, safetensors")
    parser.add_argument("--history", required=True, type=Path, help="the history to write, json")

    def job(arguments: argparse.Namespace) -> None:
        settings = joined(arguments.settings, arguments.conduct)
        gpus = settings["training"]["gpus"]
        if gpus > 1 and not processes.launched():
            return processes.launch(gpus, arguments.log)
        torch.set_num_threads(max(1, arguments.threads // processes.world()))
        data = [arguments.manifest, arguments.frames, *filter(None, [settings["weights"]])]
        origin = fingerprint(arguments.settings, *data, *arguments.code)
        with nullcontext() if processes.rank() else sole_owner(arguments.checkpoints):
            weights, history = train(settings, origin, arguments.manifest, arguments.frames, arguments.checkpoints)
            if processes.rank():
                return
            save_weights(weights, settings["backbone"], arguments.weights)
            write_json(arguments.history, history)
            checkpoint = arguments.checkpoints / CHECKPOINT
            for path in (checkpoint, checkpoint.with_suffix(PREVIOUS)):
                path.unlink(missing_ok=True)

    run(parser, job)


if __name__ == "__main__":
    main()
