"""A mistake in the config is one line with the file, the key, the value and what is allowed."""

import copy
import json

import pytest
import yaml
from conftest import REPOSITORY

from centerclip.config import cell, check_cell, check_config
from centerclip.stage import UserError

SCHEMA = yaml.safe_load((REPOSITORY / "workflow/schemas/config.schema.yaml").read_text())
BASE = REPOSITORY / "config/config.yaml"


def merged(base, overlay):
    """What Snakemake makes of two config files: mappings merge, all else replaces."""
    for key, value in overlay.items():
        base[key] = merged(base.get(key, {}), value) if isinstance(value, dict) else value
    return base


def config(*overlays):
    base = yaml.safe_load(BASE.read_text())
    for overlay in overlays:
        merged(base, copy.deepcopy(overlay))
    return base


def complaint(tmp_path, overlay):
    """The line that the config with `overlay` in a second file gets."""
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(overlay))
    with pytest.raises(UserError) as error:
        check_config(config({"run": {"benchmarks": ["shapes"]}}, overlay), SCHEMA, [BASE, file])
    line = str(error.value)
    assert "\n" not in line
    return line.replace(str(file), "mine.yaml")


def variant(**stage):
    return {"variants": {"kmedoids": {"stages": [{"algorithm": "kmedoids"} | stage]}}}


def test_the_configs_of_the_repository_are_right():
    check_config(config(), SCHEMA, [BASE])
    demo = REPOSITORY / "config/demo.yaml"
    check_config(config(yaml.safe_load(demo.read_text())), SCHEMA, [BASE, demo])


@pytest.mark.parametrize(
    ("overlay", "line"),
    [
        ({"sede": 1}, "mine.yaml: sede: unknown key; allowed are run, seed, backbone"),
        ({"seed": "one"}, "mine.yaml: seed: 'one' is not of type 'integer'"),
        ({"backbone": "ViT-L-14"}, "mine.yaml: backbone: 'ViT-L-14' is not one of ViT-B-32, ViT-B-16, tiny"),
        ({"training": {"lr": 0}}, "mine.yaml: training.lr: 0 is less than or equal to the minimum of 0"),
        ({"training": {"rate": 1}}, "mine.yaml: training.rate: unknown key; allowed are epochs, batch_size"),
        ({"weights": {"tiny": "openai"}}, "mine.yaml: weights.tiny: "),
        ({"run": {"variants": ["kmedoid"]}}, "mine.yaml: run.variants: 'kmedoid' is not one of zeroshot, baseline"),
        ({"run": {"benchmarks": ["msrvt"]}}, "mine.yaml: run.benchmarks: 'msrvt' is not one of shapes"),
        ({"benchmarks": {"shapes": {"fsp": 3}}}, "mine.yaml: benchmarks.shapes.fsp: unknown key; allowed are source"),
        (
            {"benchmarks": {"shapes": {"source": {"reader": "folders"}}}},
            "mine.yaml: benchmarks.shapes.source.reader: 'folders' is not one of shapes, folder",
        ),
        (
            {"benchmarks": {"shapes": {"source": {"colour": True}}}},
            "mine.yaml: benchmarks.shapes.source.colour: unknown key; allowed are reader, seed, videos, resolution",
        ),
        (
            {"benchmarks": {"mine": {"source": {"reader": "folder", "videos": "v"}}}},
            "mine.yaml: benchmarks.mine.source.captions: missing",
        ),
        (
            variant(algorithm="kmedoid"),
            "mine.yaml: variants.kmedoids: on shapes: algorithm 'kmedoid' is not one of kmed",
        ),
        (variant(segments=5), "mine.yaml: variants.kmedoids: on shapes: segments 5 does not divide the 12 frames"),
        (variant(clusters=148), "mine.yaml: variants.kmedoids: on shapes: clusters 148 is more than the 147 tokens"),
        (
            variant(block=12),
            "mine.yaml: variants.kmedoids: on shapes: block 12: stages need different blocks from 0 to",
        ),
        (variant(options={"sigma": 2}), "mine.yaml: variants.kmedoids: on shapes: kmedoids has no option 'sigma'; it"),
        (variant(segment=4), "mine.yaml: variants.kmedoids.stages.0.segment: unknown key; allowed are algorithm"),
        ({"benchmarks": {"shapes": {"words": 78}}}, "zeroshot: on shapes: words 78 is more than ViT-B-32 reads (77)"),
    ],
)
def test_mistakes(tmp_path, overlay, line):
    assert line in complaint(tmp_path, overlay)


def test_a_mistake_in_the_first_file_is_its_own(tmp_path):
    wrong, right = tmp_path / "first.yaml", tmp_path / "second.yaml"
    wrong.write_text(yaml.safe_dump(config({"seed": -1})))
    right.write_text(yaml.safe_dump({"select": "last"}))
    with pytest.raises(UserError, match=r"first\.yaml: seed: -1 is less than the minimum of 0"):
        check_config(config({"seed": -1, "select": "last"}), SCHEMA, [wrong, right])


def test_a_cell_takes_its_variants_settings_then_its_benchmarks_then_the_configs():
    base = config(
        {"benchmarks": {"shapes": {"training": {"epochs": 7, "lr": 0.1}, "stage": {"segments": 2}}}},
        {
            "variants": {
                "mine": {"backbone": "ViT-B-16", "training": {"lr": 0.2}, "stages": [{"algorithm": "kmedoids"}]}
            }
        },
    )
    settings = cell(base, "shapes", "mine")
    assert settings["training"] == base["training"] | {"epochs": 7, "lr": 0.2}
    assert settings["stages"] == [{"algorithm": "kmedoids", "block": 6, "segments": 2, "clusters": 49}]
    assert (settings["backbone"], settings["image_size"]) == ("ViT-B-16", 224)
    assert json.loads(json.dumps(settings)) == settings
    assert cell(base, "shapes", "baseline")["stages"] == []
    with pytest.raises(UserError, match="unknown variant 'none'; the config has zeroshot, baseline"):
        cell(base, "shapes", "none")


def test_stages_in_a_row_see_what_the_ones_before_them_kept():
    settings = cell(config(), "shapes", "kmedoids")

    def check(*stages):
        check_cell(
            settings
            | {
                "stages": [
                    dict(zip(("block", "segments", "clusters"), s, strict=True)) | {"algorithm": "kmedoids"}
                    for s in stages
                ]
            }
        )

    check((5, 6, 49), (9, 3, 98))
    with pytest.raises(UserError, match="segments 4 does not divide the 6 frames"):
        check((5, 6, 49), (9, 4, 49))
    with pytest.raises(UserError, match="clusters 99 is more than the 98 tokens"):
        check((5, 6, 49), (9, 3, 99))
    with pytest.raises(UserError, match="block 5: stages need different blocks"):
        check((5, 6, 49), (5, 3, 49))
