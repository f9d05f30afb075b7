"""The settings of the method: where a model reduces tokens, and how."""

from dataclasses import dataclass, field

from centerclip.method import reduction

KEPT = ("medoid", "mean", "weighted", "attention")  # what may stay of a cluster


@dataclass(frozen=True)
class Stage:
    """One reduction stage: after `block` blocks, each of `segments` segments keeps `clusters` tokens.

    segments: None: frames, or the segments of earlier stages, stay apart.
    remove: in place of `clusters`, how many tokens fewer a segment has, or which share of them, [CLASS] counted; at
        most half of the patches.
    keep: what stays of a cluster: its "medoid" or the mean of its tokens, each counted once ("mean"), as often as it
        stands for patches ("weighted"), or by the "attention" of [CLASS] to it in the block around the stage.
    embedding: add a learned vector to each kept token.
    inside: act in the block that comes next, between attention and MLP.
    sees: what an inside stage compares: "tokens" or the attention's "keys", their mean over heads.
    classes: what becomes of the [CLASS] of joined frames: their "mean", or "all" go on.
    clip_embedding: how many frames or segments the stage is given; each gets a learned vector. 0: no vectors.
    padded: which segments of a short video count, "drop" or "keep" (`ReductionStage`).
    options: the algorithm's.
    """

    algorithm: str
    block: int
    segments: int | None = None
    clusters: int | None = None
    keep: str = "medoid"
    embedding: bool = False
    padded: str = "drop"
    options: dict = field(default_factory=dict)
    remove: float | None = None
    inside: bool = False
    sees: str = "tokens"
    classes: str = "mean"
    clip_embedding: int = 0

    @property
    def place(self) -> tuple[int, bool]:
        """Where it acts: stages act in this order."""
        return self.block, self.inside

    @property
    def scored(self) -> bool:
        """Whether it needs [CLASS]'s attention, which only a stage inside a block can have."""
        return self.keep == "attention" or "scores" in reduction.context(self.algorithm)

    def kept(self, patches: int, classes: int) -> int:
        """How many of the patches of a segment stay, beside its [CLASS] tokens."""
        if self.clusters is not None:
            return self.clusters
        fewer = int(self.remove * (patches + classes)) if isinstance(self.remove, float) else self.remove
        return patches - min(fewer, patches // 2)


@dataclass(frozen=True)
class Model:
    """A video-text model: a backbone, its first weights (None: random ones) and what is done to its tokens.

    With `proportional` attention a token weighs as much as the patches that it stands for. `vectors` says which vectors
    a video has: the "mean" of its segments' vectors, "segments" or "medoids" (`VideoSide.encode_video`).
    """

    backbone: str
    weights: str | None = None
    stages: tuple[Stage, ...] = ()
    shift: str | None = None
    proportional: bool = False
    vectors: str = "mean"

    @property
    def plain_clip(self) -> bool:
        """Whether it encodes videos as a plain CLIP: every token goes through every block as it is, and a video is one
        vector."""
        return not self.stages and self.shift is None and self.vectors == "mean"
