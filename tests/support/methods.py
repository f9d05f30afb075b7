"""The tiny model by each way to reduce tokens that is not the paper's."""

from centerclip.method import schedules
from centerclip.method.stage import Model, Stage


def model_of(name: str, blocks: int = 4, frames: int = 6, **options) -> Model:
    """The tiny model by a schedule."""
    return Model("tiny", stages=schedules.stages(name, blocks, frames, options), proportional=name != "evit")


METHODS = {
    "tome": model_of("tome", remove=5),
    "tempme": model_of("tempme", remove=3, joins=[2, 3]),
    "pitome": model_of("pitome", remove=5),
    "evit": model_of("evit", remove=5),
    "hpool": Model("tiny", stages=(Stage("hpool", 2, 2, 49, keep="mean"),)),
    "dpc_knn": Model("tiny", stages=(Stage("dpc_knn", 2, 2, 49, keep="mean"),)),
    "rlt": Model("tiny", stages=(Stage("rlt", 0, options={"threshold": 1.23}),)),  # half of what noise differs by
    "random": Model("tiny", stages=(Stage("random_tokens", 2, 2, 49),)),
    "first": Model("tiny", stages=(Stage("first_tokens", 2, 2, 49),)),
    "norm": Model("tiny", stages=(Stage("norm", 2, 2, 49),)),
    "segments": Model("tiny", stages=(Stage("kmedoids", 2, 2, 49),), vectors="segments"),
    "medoids": Model("tiny", stages=(Stage("kmedoids", 2, 2, 9),), vectors="medoids"),
    "kmedoids, proportional": Model("tiny", stages=(Stage("kmedoids", 2, 2, 49),), proportional=True),
}
