"""Operations and parameters in closed form are those that PyTorch counts."""

import open_clip
import pytest
import torch
from conftest import REPOSITORY
from torch.utils.flop_counter import FlopCounterMode

from centerclip import backbones
from centerclip.backbones.clip import build
from centerclip.evaluate import costs, operations
from centerclip.method.errors import Misfit
from centerclip.method.stage import Model
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


def test_operations_of_a_text_are_those_counted():
    with costs.plain_attention(), torch.no_grad(), FlopCounterMode(display=False) as counter:
        build(Model("tiny"), 0).eval().encode_text(torch.ones(1, 32, dtype=torch.int64))
    assert operations.of_text("tiny", 32) == counter.get_total_flops()


@pytest.mark.parametrize("name", ["tiny", "ViT-B-16", "ViT-H-14", "ViT-bigG-14"])
def test_parameters_are_those_of_the_model(name):
    with torch.device("meta"):
        model = open_clip.CLIP(**backbones.model_config(name))
    assert operations.parameters(name) == sum(parameter.numel() for parameter in model.parameters())
