"""Operations and parameters in closed form are those that PyTorch counts."""

import open_clip
import pytest
import torch
from conftest import REPOSITORY
from support.families import FAMILIES, clip
from torch.utils.flop_counter import FlopCounterMode

import centerclip
from centerclip import backbones
from centerclip.backbones.clip import build
from centerclip.evaluate import costs, operations
from centerclip.method.errors import Misfit
from centerclip.method.reduced import ReducedCLIP
from centerclip.method.stage import Model, Stage
from centerclip.settings import resolve
from centerclip.settings.cell import check_cell
from centerclip.settings.config import read_config


def test_operations_of_a_video_are_those_counted():
    """Of every variant that fits the demo: stages between and inside blocks, schedules, shifts, means, eigenvectors."""
    config, exact = read_config([REPOSITORY / "config/demo.yaml"]), set()
    tiny = [variant for variant, settings in config["variants"].items() if "backbone" not in settings]
    for variant in tiny:
        cell = resolve.cell(config, "shapes", variant)
        try:
            check_cell(cell)
        except Misfit:
            continue
        video = costs.smooth_videos(1, *cell.data.shape)
        counted = 1e9 * costs.gflops(build(cell.model, 0, cell.data.image_size).eval(), video)
        if variant == "rlt":  # whose video decides
            assert counted < operations.of_video(cell.model, *cell.data.shape)
            continue
        assert operations.of_video(cell.model, *cell.data.shape) == pytest.approx(counted, rel=0.01), variant
        if operations.of_video(cell.model, *cell.data.shape) == pytest.approx(counted, rel=1e-9):
            exact.add(variant)
    assert {"baseline", "kmedoids", "spectral", "kmedoids-mean", "tome", "tempme", "dpc_knn", "token_shift"} <= exact


@pytest.mark.parametrize("family", ["SigLIP", "PE-Core", "EVA-02"])
def test_operations_of_timms_towers_are_those_counted_by_hand(family):
    """4 frames of 16 patches of 8 px, width D = 32, 3 blocks, vectors of 16 numbers; k-medoids after the first block
    keeps 7 tokens in each of 2 segments."""
    classes, D = (0 if family == "SigLIP" else 1), 32
    hidden = 3 * 4 * D if family == "EVA-02" else 2 * 4 * D  # weights of SwiGLU's three layers or an MLP's two, over D

    def block(sequences: int, tokens: int) -> int:
        return sequences * (2 * (4 * D + hidden) * D * tokens + 4 * D * tokens**2)

    def pool(tokens: int) -> int:
        projection = 2 * D * 16
        attends = 2 * D * 2 * D * tokens + 4 * D * tokens + 2 * 2 * D**2 + 2 * 8 * D**2  # k and v; q, output; the MLP
        return projection + (attends if family != "EVA-02" else 0)

    stem = 4 * 16 * 2 * 3 * 8**2 * D
    whole = stem + 3 * block(4, classes + 16) + 4 * pool(classes + 16)
    distances = 2 * 2 * (16 * 32 + 16**2) * D
    less = stem + block(4, classes + 16) + distances + 2 * block(2, classes + 7) + 2 * pool(classes + 7)
    model, video = clip(family), torch.randn(2, 4, 3, 32, 32)
    reduced = centerclip.reduce(model, "kmedoids", segments=2, clusters=7, block=1, frames=4)
    parts = operations.parts_of(model)
    stages = [stage.settings for stage in reduced.stages.values()]
    assert sum(operations.encoding(parts, (), 4).values()) == whole
    assert sum(operations.encoding(parts, stages, 4).values()) == less
    assert 1e9 * costs.gflops(ReducedCLIP(model, (), False), video) == pytest.approx(whole, rel=1e-9)
    assert 1e9 * costs.gflops(reduced, video) == pytest.approx(less, rel=1e-9)
    assert costs.tokens_per_block(reduced, video) == [4 * (classes + 16)] + 2 * [2 * (classes + 7)]
    alone = less - 2 * pool(classes + 7) + 2 * 7 * pool(2)
    assert sum(operations.encoding(parts, stages, 4, "medoids").values()) == alone
    assert costs.counted(lambda: reduced.encode_video(video[:1], vectors="medoids"), reduced) == alone
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_closed_form_is_what_is_counted_for_every_family(family):
    model, video = clip(family), torch.randn(1, 4, 3, 32, 32)
    for method, options in {"kmedoids": {"segments": 2}, "tome": {"remove": 3}}.items():
        reduced = centerclip.reduce(model, method, frames=4, **options)
        stages = [stage.settings for stage in reduced.stages.values()]
        expected = sum(operations.encoding(operations.parts_of(model), stages, 4).values())
        assert 1e9 * costs.gflops(reduced, video) == pytest.approx(
            expected, rel=1e-3
        )  # but for a merged mean's product


def test_operations_of_a_text_are_those_counted():
    with costs.plain_attention(), torch.no_grad(), FlopCounterMode(display=False) as counter:
        build(Model("tiny"), 0).eval().encode_text(torch.ones(1, 32, dtype=torch.int64))
    assert operations.of_text("tiny", 32) == counter.get_total_flops()


@pytest.mark.parametrize("name", ["tiny", "ViT-B-16", "ViT-H-14", "ViT-bigG-14", "ViT-B-16-SigLIP2", "EVA02-B-16"])
def test_parameters_are_those_of_the_model(name):
    config = backbones.read(name)
    clip = open_clip.CustomTextCLIP if "timm_model_name" in config["vision_cfg"] else open_clip.CLIP
    with torch.device("meta"):
        model = clip(**{key: value for key, value in config.items() if key != "custom_text"})
    assert operations.parameters(name) == sum(parameter.numel() for parameter in model.parameters())


def test_text_sides_of_transformers_are_known():
    for file in backbones.directory().glob("*.json"):
        if "hf_model_name" in backbones.read(file.stem).get("text_cfg", {}):
            assert operations.of_text(file.stem, 32) > 12 * 24 * 768**2 * 32


@pytest.mark.parametrize(
    ("backbone", "stage", "pairs", "pays"),
    [  # algorithm, segments, clusters
        ("PE-Core-T-16-384", ("kmedoids", 4, 576), 4 * 1728**2, False),
        ("PE-Core-T-16-384", ("kmedoids", 4, 144), 4 * 1728**2, True),
        ("PE-Core-T-16-384", ("spectral", 12, 192), 12 * 576**2, True),
        ("PE-Core-T-16-384", ("first_tokens", 4, 576), 0, True),
        ("ViT-B-32", ("kmedoids", 4, 49), 4 * 147**2, True),
        ("ViT-B-32", ("kmedoids", 12, 49), 12 * 49**2, False),
        ("ViT-B-32", ("first_tokens", 12, 49), 0, True),
    ],
)
def test_costly_clustering_is_named(backbone, stage, pairs, pays):
    algorithm, segments, clusters = stage
    parts, stages = operations.parts(backbone), [Stage(algorithm, 6, segments, clusters)]
    whole, less = (sum(operations.encoding(parts, given, 12).values()) for given in ((), stages))
    expected = (less + operations.A_PAIR * pairs) / whole
    assert operations.shares(parts, stages, 12) == pytest.approx((less / whole, expected))
    line = operations.costly_clustering(parts, stages, 12)
    assert (
        line is None
        if pays
        else line.startswith(f"time is {expected:.2f} of the baseline's, operations {less / whole:.2f}: ")
    )
