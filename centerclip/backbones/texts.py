"""Sentences as token ids, by the tokenizer of a backbone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

import open_clip
from torch import Tensor

from centerclip import backbones
from centerclip.command import UserError, first_line


class Texts:
    """The tokenizer of a backbone, for texts of at most `length` tokens, marks included. Raises UserError where it
    needs transformers, or what the Hub has."""

    def __init__(self, backbone: str, length: int):
        self.length, self.clips = length, "hf_tokenizer_name" not in backbones.model_config(backbone)["text_cfg"]
        self.trims = self.clips and not backbones.reads_padding(backbone)
        if self.clips:
            self.tokenizer = open_clip.SimpleTokenizer(context_length=length)
        else:
            with hub(backbone, "tokenizer"):
                self.tokenizer = open_clip.get_tokenizer(backbone, length)

    def ids(self, sentences: Sequence[str]) -> Tensor:
        """[S, L] int64: the token ids of sentences, padded to the full length."""
        return self.tokenizer(list(sentences))

    def short_ids(self, sentences: Sequence[str]) -> Tensor:
        """As `ids`, without the padding behind all sentences that CLIP's text side does not see."""
        ids = self.ids(sentences)
        return ids[:, : ids.argmax(1).max() + 1] if self.trims else ids  # the largest id ends a sentence

    def cut(self, sentence: str) -> bool:
        """Whether a sentence has more tokens than are read."""
        if self.clips:
            return len(self.tokenizer.encode(sentence)) + 2 > self.length
        return len(self.tokenizer.tokenizer(self.tokenizer.clean_fn(sentence)).input_ids) > self.length


@contextmanager
def hub(backbone: str, part: str) -> Iterator[None]:
    """Raise UserError, one line, where transformers cannot give the "tokenizer" or text "model" of a backbone."""
    name = backbones.model_config(backbone)["text_cfg"].get(f"hf_{part}_name")
    if name and find_spec("transformers") is None:
        raise UserError(f"{backbone}: its {part} {name} needs transformers: pip install 'centerclip[transformers]'")
    try:
        yield
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        if name is None:
            raise
        raise UserError(f"{backbone}: its {part} {name} cannot be loaded: {first_line(error)}") from None
