"""A mistake in the config is one line with the file, the key, the value and what is allowed."""

import argparse
import copy
import inspect
import re
import subprocess
import sys
from dataclasses import asdict, fields, replace
from functools import reduce
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import REPOSITORY
from snakemake.utils import update_config

from centerclip.command import UserError
from centerclip.method import reduction
from centerclip.method.stage import Stage
from centerclip.settings import layout
from centerclip.settings.checks import check_cell
from centerclip.settings.config import BASE, check_config, merged, read_config, read_yaml
from centerclip.settings.resolve import cell, cell_names, points, variants
from centerclip.settings.schema import (
    Evaluation,
    Runtime,
    StageBlock,
    Training,
    Work,
    add_settings,
    option_problem,
    settings_of,
)


def config(*overlays):
    return reduce(merged, overlays, yaml.safe_load(BASE.read_text()))


def complaint(tmp_path, overlay):
    """The line that the config with `overlay` in a second file gets."""
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(overlay))
    with pytest.raises(UserError) as error:
        check_config(config({"run": {"benchmarks": ["shapes"], "variants": None}}, overlay), read_yaml([BASE, file]))
    line = str(error.value)
    assert "\n" not in line
    return line.replace(str(file), "mine.yaml")


def variant(**stage):
    return {"variants": {"kmedoids": {"stages": [{"algorithm": "kmedoids"} | stage]}}}


def test_the_configs_of_the_repository_are_right():
    assert read_config([])["backbone"] == "ViT-B-32"
    assert read_config([REPOSITORY / "config/demo.yaml"])["backbone"] == "tiny"


@pytest.mark.parametrize(
    ("overlay", "line"),
    [
        ({"sede": 1}, "mine.yaml: sede: unknown key; allowed are run, seeds, backbone"),
        ({"seeds": ["one"]}, "mine.yaml: seeds.0: 'one' should be a valid integer"),
        ({"training": {"gpus": 3}}, "baseline on shapes: training.gpus 3 does not divide training.batch_size 128"),
        ({"backbone": "ViT-L14"}, "mine.yaml: backbone: 'ViT-L14' is no backbone; such as ViT-L-14, "),
        ({"backbone": "../ViT-B-16"}, "mine.yaml: backbone: '../ViT-B-16' is no backbone; such as "),
        ({"backbone": 32}, "mine.yaml: backbone: 32 should be a valid string"),
        ({"backbone": "ViT-B-32-quickgelu"}, "mine.yaml: backbone: ViT-B-32-quickgelu is called ViT-B-32 here"),
        (
            {"variants": {"baseline": {"backbone": "convnext_tiny"}}},
            "mine.yaml: variants.baseline.backbone: convnext_tiny does not work here, as its video side, timm's"
            " convnext_tiny, is no plain sequence of patches; such as",
        ),
        ({"backbone": "RN50"}, "mine.yaml: backbone: RN50 does not work here, as its video side is a ResNet; such as"),
        (
            {"backbone": "coca_ViT-L-14"},
            "it is a CoCa: it pools patches by attention, and a plain CLIP is needed; such",
        ),
        ({"weights": {"ViT-X": None}}, "mine.yaml: weights.ViT-X: 'ViT-X' is no backbone; such as"),
        (
            {"weights": {"ViT-L-14": "openai"}},
            "mine.yaml: weights.ViT-L-14: OpenAI's were trained with quick_gelu, where ViT-L-14 has gelu: name the"
            " backbone ViT-L-14-quickgelu",
        ),
        (
            {"weights": {"ViT-B-32-256": "openai"}},
            "OpenAI's were trained with quick_gelu, where ViT-B-32-256 has gelu",
        ),
        (
            {"backbone": "ViT-L-14", "weights": {"ViT-L-14": "datacomp"}},
            "mine.yaml: weights.ViT-L-14: open_clip has no weights 'datacomp' of ViT-L-14, but laion400m_e31, ",
        ),
        (
            {"backbone": "ViT-L-16", "weights": {"ViT-L-16": "weights"}},
            "open_clip has no weights 'weights' of ViT-L-16, but none; a file is named with its suffix",
        ),
        (
            {"weights": {"ViT-B-32": "datacomp_xl_s13b_b90k"}},
            "weights.ViT-B-32: trained with gelu, where ViT-B-32 has quick_gelu: name the backbone ViT-B-32-gelu",
        ),
        ({"weights": {"ViT-L-14": "hf-hub:laion"}}, "weights.ViT-L-14: 'hf-hub:laion' is not hf-hub:ORG/NAME"),
        ({"weights": {"ViT-L-14": "hf-hub:a/../b"}}, "weights.ViT-L-14: 'hf-hub:a/../b' is not hf-hub:ORG/NAME"),
        ({"weights": {"ViT-L-14": "./weights"}, "backbone": "ViT-L-14"}, "mine.yaml: weights.ViT-L-14: weights (in "),
        ({"training": {"lr": 0}}, "mine.yaml: training.lr: 0 should be greater than 0"),
        ({"training": {"rate": 1}}, "mine.yaml: training.rate: unknown key; allowed are epochs, batch_size"),
        ({"weights": {"tiny": "openai"}}, "mine.yaml: weights.tiny: 'openai': nothing is published of tiny"),
        ({"weights": {"tiny": ""}}, "mine.yaml: weights.tiny: '' should have at least 1 character"),
        (
            {"weights": {"ViT-B-16-gelu": "openai"}},
            "trained with quick_gelu, where ViT-B-16-gelu has gelu: name the backbone ViT-B-16",
        ),
        (
            {"backbone": "ViT-B-32-gelu"},
            "weights.ViT-B-32-gelu: zeroshot on shapes: missing: what ViT-B-32-gelu starts",
        ),
        ({"run": {"variants": ["kmedoid"]}}, "mine.yaml: run.variants: 'kmedoid' is not one of zeroshot, baseline"),
        ({"run": {"benchmarks": ["msrvt"]}}, "mine.yaml: run.benchmarks: 'msrvt' is not one of shapes"),
        ({"benchmarks": {"shapes": {"fsp": 3}}}, "mine.yaml: benchmarks.shapes.fsp: unknown key; allowed are source"),
        ({"benchmarks": {"x": {"frmaes": 3}}}, "mine.yaml: benchmarks.x.frmaes: unknown key; allowed are source, "),
        ({"seeds": [1, 2, 1]}, "mine.yaml: seeds: 1 is there twice"),
        (
            {"benchmarks": {"shapes": {"source": {"reader": "folders"}}}},
            "mine.yaml: benchmarks.shapes.source.reader: 'folders' should be one of 'shapes', 'folder'",
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
            "stages.0.algorithm: kmedoids on shapes: algorithm 'kmedoid' is not one of dpc_knn, ",
        ),
        (variant(segments=5), "stages.0.segments: kmedoids on shapes: segments 5 does not divide the 12 frames"),
        (variant(clusters=148), "stages.0.clusters: kmedoids on shapes: clusters 148 is more than the 147 tokens"),
        (
            variant(block=12),
            "stages.0.block: kmedoids on shapes: block 12: stages need different blocks from 0 to",
        ),
        (
            variant(options={"sigma": 2}),
            "stages.0.options.sigma: kmedoids on shapes: kmedoids has no option 'sigma'; it",
        ),
        (variant(segment=4), "mine.yaml: variants.kmedoids.stages.0.segment: unknown key; allowed are algorithm"),
        (
            variant(keep="centre"),
            "mine.yaml: variants.kmedoids.stages.0.keep: 'centre' should be 'medoid', 'mean', 'weighted' or",
        ),
        (
            variant(options={"distance": "banana"}),
            "mine.yaml: variants.kmedoids.stages.0.options.distance: kmedoids on shapes: 'banana' should be 'euclidean'"
            " or 'cosine' or be a valid number",
        ),
        (variant(options={"distance": 0.5}), "kmedoids on shapes: 0.5 should be 'euclidean' or 'cosine' or be greater"),
        (variant(options={"normalise": 1}), "options.normalise: kmedoids on shapes: 1 should be a valid boolean"),
        (
            variant(algorithm="pooling", clusters=48),
            "on shapes: pooling keeps every patch: clusters must be 49",
        ),
        ({"run": {"variants": "other"}}, "mine.yaml: run.variants: 'other' is not one of bench"),
        ({"lists": {"bench": ["other"]}}, "mine.yaml: lists.bench: 'other' is not one of zeroshot, "),
        (variant(sees="keys"), "stages.0.sees: kmedoids on shapes: sees keys: only a stage inside a block does"),
        (variant(keep="attention"), "keep attention: only a stage inside a block has [CLASS]'s attention"),
        (variant(algorithm="evit"), "evit: only a stage inside a block has [CLASS]'s attention"),
        (variant(remove=3, clusters=5), "clusters: kmedoids on shapes: a stage has either clusters or remove"),
        (
            variant(algorithm="tome", clusters=9),
            "tome removes half of the 147 tokens of a segment at most: 9 is too few",
        ),
        (variant(algorithm="rlt", block=2), "rlt is given pixels: at block 0, and without other keys than options"),
        (
            variant(classes="all", segments=1, embedding=True, remove=3),
            "embedding needs `clusters`, but this stage sets `remove`",
        ),
        (
            variant(clip_embedding=3),
            "clip_embedding: kmedoids on shapes: clip_embedding 3: the stage is given 12 frames",
        ),
        (
            {"variants": {"spectral": {"schedule": {"name": "tome"}}}},
            "mine.yaml: variants.spectral.schedule: spectral on shapes: a variant has either stages or a schedule",
        ),
        (
            {"variants": {"kmedoids": {"shift": "token_shift", "stages": [{"algorithm": "tome", "inside": True}]}}},
            "variants.kmedoids.shift: kmedoids on shapes: shift token_shift runs whole blocks: no stage is inside one",
        ),
        (variant(algorithm="token_shift"), "on shapes: algorithm 'token_shift' is not one of dpc_knn, "),
        (
            {"variants": {"baseline": {"shift": "shift"}}},
            "variants.baseline.shift: 'shift' should be 'temporal_shift', 'tok",
        ),
        ({"run": {"grids": ["depth"]}}, "mine.yaml: run.grids: 'depth' is not one of block, clusters"),
        ({"grids": {"block": {"of": "kmeans"}}}, "mine.yaml: grids.block.of: 'kmeans' is not one of zeroshot"),
        (
            {"variants": {"kmedoids-block-2": {}}},
            "mine.yaml: variants.kmedoids-block-2: is called like a point of the grid block",
        ),
        (
            {"grids": {"block": {"of": "baseline"}}},
            "mine.yaml: grids.block.of: baseline has no stage whose block could",
        ),
        (
            {"benchmarks": {"tables": config()["benchmarks"]["shapes"]}},
            "mine.yaml: benchmarks.tables: 'tables' should match pattern",
        ),
        ({"benchmarks": {1: config()["benchmarks"]["shapes"]}}, "mine.yaml: benchmarks.1: 1 should be a valid string"),
        ({"variants": {"baseline": {"segment_frames": 2}}}, "mine.yaml: variants.baseline.stages: missing"),
        (
            {"variants": {"baseline": {"image_size": 200}}},
            "mine.yaml: variants.baseline.image_size: baseline on shapes: image_size 200 is not a multiple of 32, the"
            " patch size of ViT-B-32",
        ),
        ({"variants": {"baseline": {"image_size": 0}}}, "variants.baseline.image_size: 0 should be greater than or"),
        (
            {"variants": {"frames-8": {"against": "base"}}},
            "mine.yaml: variants.frames-8.against: 'base' is not one of zeroshot",
        ),
        *(
            (
                {"variants": {"frames-8": {"against": name}}},
                f"mine.yaml: variants.frames-8.against: {name} is not a baseline",
            )
            for name in ("zeroshot", "kmedoids", "tome", "token_shift", "frames-6", "frames-8")
        ),
        ({"variants": {"frames": {}}}, "mine.yaml: variants.frames: 'frames' should match pattern"),
        ({"training": {"where": ["q", "x"]}}, "mine.yaml: training.where.1: 'x' should be 'q', 'k' or 'v'"),
        ({"training": {"where": ["q", "q"]}}, "mine.yaml: training.where: 'q' is there twice"),
        (
            {"training": {"loss": "sigmoid"}},
            "mine.yaml: training.loss: baseline on shapes: loss sigmoid: ViT-B-32 has no",
        ),
        ({"training": {"tune": "adapter"}}, "mine.yaml: training.tune: 'adapter' should be 'all' or 'lora'"),
        ({"variants": {"a-seed-1": {}}}, "mine.yaml: variants.a-seed-1: 'a-seed-1' should match"),
        (
            {"grids": {"block": {"values": ["x"]}}},
            "variants.kmedoids-block-x.stages.0.block: 'x' should be a valid int",
        ),
        (
            {"run": {"grids": ["block"]}, "grids": {"block": {"sets": "blok"}}},
            "mine.yaml: grids.block: kmedoids-block-1 on shapes: kmedoids has no option 'blok'; it has distance",
        ),
        (
            {"benchmarks": {"mine": config()["benchmarks"]["msrvtt7k"] | {"dataset": "msrvt"}}},
            "mine.yaml: benchmarks.mine.dataset: 'msrvt' is not one of shapes, msvd",
        ),
        (
            {"benchmarks": {"msrvtt7k": {"dataset": "msvd"}}},
            "mine.yaml: benchmarks.msrvtt7k.dataset: msvd is read by msvd, not msrvtt",
        ),
        (
            {"benchmarks": {"mine": config()["benchmarks"]["msrvtt7k"] | {"dataset": "msrvtt7k"}}},
            "mine.yaml: benchmarks.mine.dataset: msrvtt7k has no files of its own, but those of msrvtt",
        ),
        ({"benchmarks": {"msrvtt7k": {"fps": 3}}}, "mine.yaml: benchmarks.msrvtt7k.fps: is that of msrvtt"),
        (
            {"benchmarks": {"msrvtt7k": {"source": {"local": {"videos": "videos"}}}}},
            "mine.yaml: benchmarks.msrvtt7k.source.local: belongs to msrvtt, whose files are used",
        ),
        ({"weights": {"ViT-B-32": "none.pt"}}, "mine.yaml: weights.ViT-B-32: none.pt (in "),
        (
            {"benchmarks": {"shapes": {"text_tokens": 78}}},
            "zeroshot on shapes: text_tokens 78 is more than ViT-B-32 reads (77)",
        ),
    ],
)
def test_mistakes(tmp_path, overlay, line):
    assert line in complaint(tmp_path, overlay)


@pytest.mark.parametrize(
    ("overlay", "place"),
    [
        ({"training": {"gpus": 3}}, "training.gpus: baseline"),
        ({"variants": {"baseline": {"training": {"gpus": 3}}}}, "variants.baseline.training.gpus: baseline"),
        ({"benchmarks": {"shapes": {"training": {"gpus": 3}}}}, "benchmarks.shapes.training.gpus: baseline"),
        ({"benchmarks": {"shapes": {"text_tokens": 78}}}, "benchmarks.shapes.text_tokens: zeroshot"),
        ({"benchmarks": {"shapes": {"frames": 7}}}, "benchmarks.shapes.frames: kmedoids"),
        ({"benchmarks": {"shapes": {"stage": {"segments": 5}}}}, "benchmarks.shapes.stage.segments: kmedoids"),
        (variant(segments=5), "variants.kmedoids.stages.0.segments: kmedoids"),
        ({"variants": {"kmedoids": {"frames": 7}}}, "variants.kmedoids.frames: kmedoids"),
        ({"backbone": "tiny"}, "backbone: kmedoids"),
        ({"run": {"grids": ["block"]}, "grids": {"block": {"values": [12]}}}, "grids.block: kmedoids-block-12"),
        (
            {"run": {"grids": ["frames"]}, "benchmarks": {"shapes": {"stage": {"clusters": 50}}}},
            "benchmarks.shapes.stage.clusters: kmedoids-frames-1",
        ),
    ],
)
def test_settings_that_do_not_fit_are_blamed_on_the_key_that_was_set_last(tmp_path, overlay, place):
    """What mine.yaml sets, of a variant, a benchmark, a grid or all, not what config.yaml has."""
    assert complaint(tmp_path, overlay).startswith(f"mine.yaml: {place} on shapes: ")


@pytest.mark.parametrize(
    ("annotation", "value", "problem"),
    [
        ("int", "x", "'x' should be a valid integer"),
        ("int | None", None, None),
        ("bool", 1, "1 should be a valid boolean"),
        ("float", 1, None),
        ("str", 3, "3 should be a valid string"),
        ("Literal['a', 'b'] | None", "c", "'c' should be 'a' or 'b'"),
        ("typing.Annotated[float, '> 0'] | None", 0, "0 should be greater than 0"),
        ("list[int]", [1, "x"], "'x' should be a valid integer"),
        ("Tensor", 3, None),
        ("", 3, None),
    ],
)
def test_an_algorithms_option_has_the_type_that_its_file_writes(annotation, value, problem):
    assert option_problem(annotation, value) == problem


def test_a_stage_of_the_config_has_the_keys_of_a_stage_of_a_model():
    assert {field.name for field in fields(StageBlock)} == {field.name for field in fields(Stage)}


def test_a_command_is_told_how_to_work():
    runtime = Runtime(chunk=3, grad_checkpointing=True, workers=2, evaluation=Evaluation(batch_size=7))
    line = "--chunk 3 --grad-checkpointing true --workers 2 --evaluation-batch-size 7"
    assert (runtime.training_options, runtime.evaluation_options) == (line, "--batch-size 7")
    parser = argparse.ArgumentParser()
    add_settings(parser, Work)
    add_settings(parser, Evaluation, "evaluation_")
    arguments = parser.parse_args(line.split())
    evaluation = Evaluation(**settings_of(Evaluation, arguments, "evaluation_"))
    assert Runtime(**settings_of(Work, arguments), evaluation=evaluation) == runtime
    assert parser.parse_args(["--grad-checkpointing"]).grad_checkpointing is True


def test_files_are_joined_as_snakemake_joins_them():
    base, overlay = {"a": {"b": 1, "c": [1, 2]}, "d": 3, "e": {}}, {"a": {"c": [4]}, "d": {"f": 5}, "e": None}
    joint = copy.deepcopy(base)
    update_config(joint, overlay)  # Snakemake's own, in place
    assert merged(base, overlay) == joint == {"a": {"b": 1, "c": [4]}, "d": {"f": 5}, "e": None}
    assert base["a"] == {"b": 1, "c": [1, 2]}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"a: [", "mine.yaml: not YAML: "),
        (b"\xff\x00", "mine.yaml: not YAML: 'utf-8' codec"),
        (b"a: 2026-13-01", "mine.yaml: not YAML: month must be"),
        (b"- a", "mine.yaml: not a mapping of k"),
    ],
)
def test_a_file_that_is_no_config(tmp_path, content, line):
    (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(UserError, match=line):
        read_yaml([tmp_path / "mine.yaml"])


def test_a_mistake_in_the_first_file_is_its_own(tmp_path):
    wrong, right = tmp_path / "first.yaml", tmp_path / "second.yaml"
    wrong.write_text(yaml.safe_dump(config({"seeds": [-1]})))
    right.write_text(yaml.safe_dump({"select": "last"}))
    with pytest.raises(UserError, match=r"first\.yaml: seeds.0: -1 should be greater than or equal to 0"):
        check_config(config({"seeds": [-1], "select": "last"}), read_yaml([wrong, right]))


def test_what_no_file_has_was_given_on_the_command_line():
    with pytest.raises(UserError, match=r"^--config: seeds.0: -1 should be greater than or equal to 0"):
        check_config(config({"seeds": [-1]}), read_yaml([BASE]))


def test_a_cell_takes_its_variants_settings_then_its_benchmarks_then_the_configs():
    base = config(
        {"benchmarks": {"shapes": {"training": {"epochs": 7, "lr": 0.1}, "stage": {"segments": 2}}}},
        {
            "variants": {
                "mine": {"backbone": "ViT-B-16", "training": {"lr": 0.2}, "stages": [{"algorithm": "kmedoids"}]}
            }
        },
    )
    mine = cell(base, "shapes", "mine")
    assert (mine.training.epochs, mine.training.lr, mine.training.eps) == (7, 0.2, 1e-6)
    assert mine.model.stages == (Stage("kmedoids", block=6, segments=2, clusters=49),)
    assert (mine.model.backbone, mine.data.image_size) == ("ViT-B-16", 224)
    assert cell(base, "shapes", "baseline").model.stages == ()
    assert cell(config(), "msrvtt", "baseline").training == Training()
    with pytest.raises(UserError, match="unknown variant 'none'; the config has zeroshot, baseline"):
        cell(base, "shapes", "none")


@pytest.mark.parametrize(
    ("backbone", "weights", "path"),
    [
        ("ViT-B-32", "openai", "results/weights/ViT-B-32/openai.safetensors"),
        ("ViT-L-14", "datacomp_xl_s13b_b90k", "results/weights/ViT-L-14/datacomp_xl_s13b_b90k.safetensors"),
        ("ViT-L-14", "hf-hub:org/Name-1.0", "results/weights/ViT-L-14/hf-hub:org/Name-1.0.safetensors"),
        ("ViT-L-14", "dir/file", "dir/file"),
        ("ViT-L-14", "weights.pt", "weights.pt"),
        ("ViT-L-14", None, None),
    ],
)
def test_published_weights_are_a_file_by_their_name_so_that_others_train_again(backbone, weights, path):
    base = config({"backbone": backbone, "weights": {backbone: weights}})
    assert cell(base, "msrvtt", "baseline").model.weights == path


def test_any_backbone_is_a_line_of_the_config_and_one_of_its_weights():
    run = {"run": {"variants": ["zeroshot", "baseline", "kmedoids", "spectral"]}}
    mine = config(run, {"backbone": "ViT-L-14", "weights": {"ViT-L-14": "datacomp_xl_s13b_b90k"}})
    check_config(mine, {"config.yaml": mine})
    kmedoids = cell(mine, "msrvtt", "kmedoids")
    assert (kmedoids.model.backbone, kmedoids.data.image_size) == ("ViT-L-14", 224)
    larger = config(run, {"backbone": "ViT-H-14-378-quickgelu", "weights": {"ViT-H-14-378-quickgelu": None}})
    check_config(larger, {"config.yaml": larger})
    assert cell(larger, "msrvtt", "kmedoids").data.image_size == 378


def test_controls_see_less_and_are_compared_with_the_whole_baseline():
    base = config()
    baseline, larger = (cell(base, "msrvtt", name) for name in ("baseline", "baseline-b16"))
    for name, frames, pixels, compared in [
        *(("frames-8", 8, 224, baseline), ("frames-6", 6, 224, baseline), ("pixels-192", 12, 192, baseline)),
        *(("pixels-160", 12, 160, baseline), ("b32-352", 12, 352, larger)),
    ]:
        control = cell(base, "msrvtt", name)
        assert (control.data.frames, control.data.image_size, control.model) == (frames, pixels, baseline.model)
        assert control.group == compared.group and not control.baseline and not control.as_published
        assert control.path(layout.FRAMES) == Path(f"results/msrvtt/frames/{pixels}px/report.csv")
    assert set(base["lists"]["bench"]) > {"frames-8", "frames-6", "pixels-192", "pixels-160"}


def test_the_repositorys_configs_are_checked_without_open_clip():
    """Importing it takes seconds, and Snakemake reads the config again for every job of a cluster."""
    checked = "from centerclip.settings.config import read_config; read_config([])"
    code = f"import sys; {checked}; print({{'torch', 'open_clip', 'huggingface_hub'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_stages_in_a_row_see_what_the_ones_before_them_kept():
    kmedoids = cell(config(), "shapes", "kmedoids")

    def check(*stages):
        check_cell(replace(kmedoids, model=replace(kmedoids.model, stages=[Stage("kmedoids", *s) for s in stages])))

    check((5, 6, 49), (9, 3, 98))
    with pytest.raises(UserError, match="segments 4 does not divide the 6 frames"):
        check((5, 6, 49), (9, 4, 49))
    with pytest.raises(UserError, match="clusters 99 is more than the 98 tokens"):
        check((5, 6, 49), (9, 3, 99))
    with pytest.raises(UserError, match="block 5: stages need different blocks"):
        check((5, 6, 49), (5, 3, 49))


def test_a_grid_changes_one_thing_of_its_variant():
    base = config()
    block, frames, option = points(base, "block"), points(base, "frames"), points(base, "normalise")
    assert list(block) == [f"kmedoids-block-{value}" for value in (1, 2, 4, 6, 8, 10)]
    assert block["kmedoids-block-2"] == {"stages": [{"algorithm": "kmedoids", "block": 2}]}
    assert frames["kmedoids-frames-2"] == {"stages": [{"algorithm": "kmedoids"}], "segment_frames": 2}
    assert [cell(base, name, "kmedoids-frames-2").data.frames for name in ("msrvtt", "lsmdc")] == [8, 12]  # S 4 and 6
    assert option["kmedoids-normalise-true"]["stages"] == [{"algorithm": "kmedoids", "options": {"normalise": True}}]
    assert cell(base, "msrvtt", "kmedoids-block-2").model.stages[0].block == 2


def test_grids_are_switched_on_by_one_line_and_a_list_replaces_the_benchmarks_own():
    assert variants(config(), "shapes") == ["zeroshot", "baseline", "kmedoids", "spectral"]
    settings_of = config({"run": {"variants": ["baseline"], "grids": ["normalise"]}})
    assert variants(settings_of, "shapes") == ["baseline", "kmedoids-normalise-false", "kmedoids-normalise-true"]


@pytest.mark.parametrize("grid", config()["grids"])
def test_every_grid_fits_every_benchmark(grid):
    settings_of = config({"run": {"grids": [grid], "benchmarks": list(config()["benchmarks"])}})
    check_config(settings_of, {"config.yaml": settings_of})


def test_each_further_seed_is_a_cell_of_its_own_and_changes_no_other():
    one, two = config(), config({"seeds": [42, 7]})
    assert cell_names(one, "shapes") == ["zeroshot", "baseline", "kmedoids", "spectral"]
    assert cell_names(two, "shapes") == [
        *("zeroshot", "baseline", "baseline-seed-7", "kmedoids", "kmedoids-seed-7", "spectral", "spectral-seed-7")
    ]
    assert cell(two, "shapes", "kmedoids") == cell(one, "shapes", "kmedoids")
    further = replace(cell(one, "shapes", "kmedoids"), name="kmedoids-seed-7", seed=7)
    assert cell(two, "shapes", "kmedoids-seed-7") == further
    with pytest.raises(UserError, match="unknown variant 'kmedoids-seed-x'"):
        cell(two, "shapes", "kmedoids-seed-x")


def test_every_row_of_the_paper_that_is_a_variant_is_in_the_config_as_published():
    base, paper = config(), pd.read_csv(REPOSITORY / "config/paper.csv")
    for row in paper.dropna(subset="variant").itertuples():
        assert row.variant in variants(base, row.benchmark)
        assert row.videos == base["benchmarks"][row.benchmark]["counts"]["test"]["videos"]
        published = cell(base, row.benchmark, row.variant)
        assert published.model.backbone == row.backbone
        assert published.trained == (row.variant != "zeroshot") and published.as_published
        stages = [(stage.algorithm, stage.block, stage.segments, stage.clusters) for stage in published.model.stages]
        expected = (row.algorithm, row.block, row.segments, row.clusters)
        assert stages == ([] if row.algorithm == "none" else [expected])


@pytest.mark.parametrize("benchmark", ["msvd", "msrvtt", "msrvtt7k", "lsmdc", "activitynet", "didemo"])
def test_the_published_recipe(benchmark):
    recipe = {"batch_size": 128, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.2, "warmup": 0.1, "clip_norm": 1}
    recipe |= {"frozen": "stem", "no_decay": "biases", "spans": "floor", "precision": "float16"}
    recipe |= {"loss": "softmax", "tune": "all", "rank": 8, "where": ("q", "k", "v")}
    if benchmark in ("activitynet", "didemo"):
        recipe |= {"lr": 1e-5, "lr_new": 1e-5, "epochs": 8}
        lengths = 60, 77
    else:
        recipe |= {"lr": 5e-6, "lr_new": 5e-6, "epochs": 5}
        lengths = 12, 32
    for name in variants(config(), benchmark):
        published = cell(config(), benchmark, name)
        assert published.seed == 42 and published.precision == "float32"
        assert all(stage.padded == "drop" and "sigma" not in stage.options for stage in published.model.stages)
        assert (published.data.frames, published.data.text_tokens) == lengths
        if published.trained:
            assert asdict(published.training) == recipe | {"select": "best"}
        assert not any("normalise" in stage.options for stage in published.model.stages)
    for name in ("kmedoids", "spectral"):
        assert inspect.signature(reduction.algorithm(name)).parameters["normalise"].default is False


def test_tempmes_published_recipe_and_others_by_it():
    """Tables compare each with the fully tuned baseline."""
    base = config()
    for name in ("tempme", "kmedoids", "baseline"):
        full, low = cell(base, "msrvtt", name), cell(base, "msrvtt", f"{name}-lora")
        rates = {"lr": 6e-4, "lr_new": 6e-4 if name == "tempme" else 5e-6}
        assert low.training == replace(full.training, tune="lora", **rates)
        assert (low.training.rank, low.training.where, low.training.epochs) == (8, ("q", "k", "v"), 5)
        assert low.model == full.model and low.group == full.group
        assert not low.baseline and not low.as_published


@pytest.mark.parametrize(
    ("benchmark", "variant", "videos"),
    [
        ("msrvtt", "kmedoids-s4", 64),
        ("msvd", "baseline-b16", 16),
        ("activitynet", "baseline", 16),
        ("activitynet", "kmedoids-b16-s15", 4),
    ],
)
def test_memory_is_measured_at_the_authors_batch_a_gpu(benchmark, variant, videos):
    assert cell(config(), benchmark, variant).costs.batch_size == videos


def test_what_changes_no_result_is_apart():
    """Of runtime settings neither weights nor costs depend; of the recipe and what it starts from no costs do; of the
    precision of evaluation no weights do."""
    base = cell(config(), "msrvtt", "kmedoids")
    runtime = {"gpus": 2, "chunk": 8, "grad_checkpointing": True, "workers": 9, "checkpoint_minutes": 3, "threads": 9}
    changes = {"training": runtime, "evaluation": {"batch_size": 3, "workers": 9, "threads": 9}}
    other = cell(config(changes), "msrvtt", "kmedoids")
    assert other.settings() == base.settings() and other.cost_settings() == base.cost_settings()
    assert asdict(other.runtime) == runtime | {"evaluation": changes["evaluation"]}
    taught = cell(config({"training": {"lr": 1.0}, "weights": {"ViT-B-32": None}}), "msrvtt", "kmedoids")
    assert taught.settings() != base.settings() and taught.cost_settings() == base.cost_settings()
    lower = cell(config({"evaluation": {"precision": "bfloat16"}}), "msrvtt", "kmedoids")
    assert lower.settings() == base.settings() and lower.cost_settings() != base.cost_settings()
    larger = cell(config({"training": {"gpu_batch": 32}}), "msrvtt", "kmedoids")
    assert larger.settings() == base.settings() and larger.cost_settings() != base.cost_settings()
    untrained = [cell(config({"training": {"lr": lr}}), "msrvtt", "zeroshot") for lr in (0.1, 0.2)]
    assert untrained[0].settings() == untrained[1].settings()


def test_benchmarks_of_one_dataset_share_its_frames():
    cells = [cell(config(), name, "baseline") for name in ("msrvtt", "msrvtt7k")]
    assert (
        cells[0].path(layout.FRAMES) == cells[1].path(layout.FRAMES) == Path("results/msrvtt/frames/224px/report.csv")
    )
    assert cells[0].path(layout.MANIFEST) != cells[1].path(layout.MANIFEST)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("run: &a [*a]", "run.0: is an alias of a value that it is part of"),
        ("training: {lr: .nan}", "training.lr: nan is not a finite number"),
        ("training: {betas: [0.9, -.inf]}", "training.betas.1: -inf is not a finite number"),
        ("stall_seconds: 60\nstall_seconds: 7\n", "not YAML: the key 'stall_seconds' is there twice"),
        ("run:\n\tfull_size: true\n", "not YAML: "),
        (b'select: "\xff"', "not YAML: 'utf-8' codec can't decode"),
        ("- run", "not a mapping of keys to values"),
    ],
)
def test_a_file_that_is_no_config_is_one_line(tmp_path, text, told):
    file = tmp_path / "mine.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=f"^{re.escape(f'{file}: {told}')}[^\n]*$"):
        read_yaml([file])


def test_a_merged_mapping_may_override_what_it_merges(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, y: 4}\n")
    assert read_yaml([file])[str(file)]["c"] == {"x": 3, "y": 4}
