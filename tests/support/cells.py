"""Small cells for tests."""

from dataclasses import replace

from centerclip.method.stage import Model, Stage
from centerclip.settings.cell import Cell, Costs, Data, Runtime, Training

STAGE = Stage("kmedoids", block=2, segments=2, clusters=49)
TRAINING = Training(
    epochs=2, batch_size=4, lr=1e-3, lr_new=1e-2, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2, warmup=0.1,
    clip_norm=1.0, select="best",
)  # fmt: skip


def tiny_cell(*stages: Stage, variant: str = "mine", **changes) -> Cell:
    """A cell of the tiny backbone with random weights; `changes` are fields of Cell."""
    cell = Cell(
        benchmark="shapes",
        dataset="shapes",
        variant=variant,
        seed=0,
        name=variant,
        model=Model("tiny", stages=stages),
        data=Data(frames=6, text_tokens=32, image_size=56),
        training=TRAINING,
        costs=Costs(batch_size=4),
        runtime=Runtime(),
    )
    return replace(cell, **changes)
