"""A model for one's own videos and sentences: files and text in, vectors out."""

import hashlib
import json
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from open_clip import SimpleTokenizer
from torch import Tensor

from centerclip import backbones, decoding, extraction
from centerclip.config import check_cell
from centerclip.dataset import normalise, sample
from centerclip.extraction import spread_frames
from centerclip.model import build, pick_device
from centerclip.stage import UserError

NEEDED = ("backbone", "weights", "image_size", "frames", "words", "stages", "shift", "seed", "train")  # of a cell


def read_cell(path: str | Path) -> dict:
    """The settings of a cell from its results json, `weights` being those it was trained to, which lie beside it in
    {benchmark}/{variant}/; a path to those of an untrained cell starts at the directory that its results/ is in.
    Raises UserError for a file that is none."""
    path = Path(path)
    try:
        settings = json.loads(path.read_text())["settings"]
        itemgetter(*NEEDED)(settings)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not the results of a cell, such as results/shapes_kmedoids.json") from None
    if settings["train"]:
        benchmark, _, variant = path.stem.partition("_")
        settings["weights"] = str(path.parent / benchmark / variant / "weights.safetensors")
    elif settings["weights"]:
        settings["weights"] = str(path.absolute().parent.parent / settings["weights"])
    return settings


def plain(backbone: str = "ViT-B-32", weights: str | None = "openai", frames: int = 12, stages: Sequence = ()) -> dict:
    """The settings of a model that is no cell; `weights` and `stages` as in `centerclip.model.build`."""
    return {
        "backbone": backbone,
        "weights": weights,
        "image_size": backbones.geometry(backbone).image_size,
        "frames": frames,
        "words": backbones.geometry(backbone).context,
        "stages": list(stages),
        "shift": None,
        "seed": 0,
    }


class Retriever:
    """A model by its settings (`read_cell`, `plain`), on the GPU if there is one; what it gives is on the CPU.

    Raises:
        UserError: settings that do not fit each other, or weights that do not fit them.
    """

    def __init__(self, settings: dict):
        check_cell(settings)
        self.settings = settings
        self.device = pick_device()
        parts = [settings[key] for key in ("backbone", "stages", "shift", "weights", "seed")]
        self.model = build(*parts).eval().to(self.device)
        self.tokenizer = SimpleTokenizer(context_length=settings["words"])

    def read(self, path: str | Path) -> tuple[Tensor, Tensor]:
        """A video file's frames as this model sees them, uint8 [T, 3, H, W], and their mask [T]. Raises NoFrames."""
        return self.padded(spread_frames(path, self.settings["frames"], self.settings["image_size"]))

    def padded(self, frames: np.ndarray) -> tuple[Tensor, Tensor]:
        """Frames uint8 [n, H, W, 3] of a video, n at most the model's, as many as those, with their mask: as `read`."""
        indices, mask = sample(len(frames), self.settings["frames"])
        return torch.from_numpy(frames[indices]).permute(0, 3, 1, 2), torch.from_numpy(mask)

    @torch.no_grad()
    def encode_frames(self, frames: Tensor, mask: Tensor) -> Tensor:
        """The unit vector [E] of uint8 frames [T, 3, H, W] with their mask [T]."""
        return self.model.encode_video(normalise(frames[None].to(self.device)), mask[None].to(self.device))[0].cpu()

    def encode_videos(self, paths: Sequence[str | Path]) -> Tensor:
        """[V, E] unit vectors of video files. Raises NoFrames."""
        return torch.stack([self.encode_frames(*self.read(path)) for path in paths])

    @torch.no_grad()
    def encode_sentences(self, sentences: Sequence[str]) -> Tensor:
        """[T, E] unit vectors. Of a sentence longer than `words` tokens, the rest is not read (`too_long`)."""
        return self.model.encode_text(self.tokenizer(list(sentences)).to(self.device)).cpu()

    def too_long(self, sentence: str) -> bool:
        """Whether the model does not read all of a sentence."""
        return len(self.tokenizer.encode(sentence)) + 2 > self.settings["words"]  # a start and an end mark

    def fingerprint(self) -> str:
        """Equal for two models that give the same vectors to the same videos.

        It is a hash of parameters, settings and the code that decodes."""
        parts = [self.settings[key] for key in ("backbone", "stages", "shift", "frames")]
        digest = hashlib.sha256(json.dumps(parts).encode())
        for module in (decoding, extraction):
            digest.update(Path(module.__file__).read_bytes())
        for tensor in self.model.state_dict().values():
            digest.update(tensor.cpu().numpy().data)
        return digest.hexdigest()
