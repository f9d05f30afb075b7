"""A cell's roles and paths, and that it comes back from json as it was."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from support.cells import STAGE, tiny_cell
from support.damage import damaged

from centerclip.command import UserError, write_json
from centerclip.method.stage import Model
from centerclip.settings import layout
from centerclip.settings.cell import Costs, check_own, from_settings, read_cell

BASELINE, KMEDOIDS = tiny_cell(variant="baseline"), tiny_cell(STAGE, variant="kmedoids")
SHIFT = replace(BASELINE, model=Model("tiny", shift="token_shift"))
ZEROSHOT = replace(BASELINE, training=None)
CONTROL = replace(BASELINE, data=replace(BASELINE.data, frames=3, image_size=48), against=BASELINE.kind)
POOLING = tiny_cell(replace(STAGE, algorithm="pooling", keep="mean"))


@pytest.mark.parametrize(
    ("cell", "trained", "baseline", "clustering"),
    [
        (BASELINE, True, True, False),
        (KMEDOIDS, True, False, True),
        (SHIFT, True, False, False),
        (ZEROSHOT, False, False, False),
        (POOLING, True, False, False),
        (CONTROL, True, False, False),
    ],
)
def test_roles(cell, trained, baseline, clustering):
    assert (cell.trained, cell.baseline, cell.clustering) == (trained, baseline, clustering)


def test_a_cell_is_compared_with_those_of_its_backbone_frames_and_pixels_a_control_with_what_it_names():
    for change in ({"frames": 12}, {"image_size": 64}):
        assert BASELINE.group == KMEDOIDS.group != replace(BASELINE, data=replace(BASELINE.data, **change)).group
    assert CONTROL.group == BASELINE.group and "against" not in BASELINE.settings()


@pytest.mark.parametrize(
    ("change", "published"),
    [({}, True), ({"keep": "mean"}, False), ({"embedding": True}, False), ({"options": {"iterations": 3}}, False)],
)
def test_a_model_as_published_has_nothing_else(change, published):
    cell = tiny_cell(replace(STAGE, **change))
    cell = replace(cell, data=replace(cell.data, frames=12))
    assert cell.as_published == published
    assert not replace(cell, benchmark="activitynet").as_published  # of 60 frames
    assert not replace(cell, data=replace(cell.data, image_size=48)).as_published


def test_every_file_of_a_cell():
    cell = replace(KMEDOIDS, name="kmedoids-seed-7", dataset="videos", results=Path("elsewhere"))
    templates = layout.RESULT, layout.WEIGHTS, layout.MANIFEST, layout.FRAMES
    assert [str(cell.path(template).relative_to("elsewhere")) for template in templates] == [
        *("shapes_kmedoids-seed-7.json", "shapes/kmedoids-seed-7/weights.safetensors"),
        *("shapes/manifest.csv", "videos/frames/56px/report.csv"),
    ]


@pytest.mark.parametrize("cell", [BASELINE, KMEDOIDS, ZEROSHOT, SHIFT, CONTROL])
def test_a_cell_comes_back_from_its_file_and_from_its_results(cell, tmp_path):
    for path, content in (
        (tmp_path / "out/shapes/kmedoids/cell.json", cell.settings()),
        (tmp_path / "out/shapes_kmedoids.json", {"settings": cell.settings(), "text_to_video": {}}),
        (tmp_path / "out/shapes/kmedoids/evaluation.json", {"settings": cell.settings(), "text_to_video": {}}),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        assert read_cell(path) == replace(cell, results=tmp_path / "out", costs=Costs())
    costs = from_settings(cell.cost_settings())
    assert (costs.costs, costs.trained, costs.model) == (cell.costs, cell.trained, cell.model)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"settings": {"model": 1}}'])
def test_another_file_is_a_mistake(tmp_path, content):
    (tmp_path / "file.json").write_text(content)
    with pytest.raises(UserError, match=r"file.json: not a cell or its results, such as results/shapes_kmedoids.json"):
        read_cell(tmp_path / "file.json")
    with pytest.raises(UserError, match=r"none.json: No such file"):
        read_cell(tmp_path / "none.json")


def test_results_of_other_settings_than_their_cells_are_a_mistake(tmp_path):
    cell = replace(KMEDOIDS, results=tmp_path)
    other = replace(cell, training=replace(cell.training, lr=2e-3))
    result = cell.path(layout.RESULT)
    write_json(cell.path(layout.CELL), cell.settings())
    write_json(result, {"settings": cell.settings()})
    check_own(result)
    for made in (other, BASELINE):  # the last, copied over it
        write_json(result, {"settings": made.settings()})
        with pytest.raises(UserError, match=r"made with other settings than .*/shapes/kmedoids/cell.json"):
            check_own(result)
    result.rename(tmp_path / "mine.json")
    check_own(tmp_path / "mine.json")  # of no cell here


def test_a_damage_is_a_mistake_or_another_cell(tmp_path):
    content = json.dumps({"settings": KMEDOIDS.settings()}, indent=2).encode()
    for damage in damaged(content, 200):
        (tmp_path / "file.json").write_bytes(damage)
        with suppress(UserError):
            read_cell(tmp_path / "file.json").settings()
