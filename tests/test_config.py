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
from centerclip.plan import Plan
from centerclip.settings import layout
from centerclip.settings.cell import check_cell
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


def nested(key: str, value: object) -> object:
    """`value` at a key such as "training.lr"."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


MSRVTT = config()["benchmarks"]["msrvtt7k"]
B32, L14 = "weights.ViT-B-32", "weights.ViT-L-14"


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        # each kind of value
        ("sede", 1, "unknown key; allowed are run, seeds, backbone"),
        ("benchmarks.x.frmaes", 3, "unknown key; allowed are source, "),
        ("benchmarks.shapes.source.colour", True, "unknown key; allowed are reader, seed, videos, resolution"),
        ("training.lr", 0, "0 should be greater than 0"),
        ("backbone", 32, "32 should be a valid string"),
        ("training", None, "null should be a mapping of keys to values"),
        ("training.lr", "5e-6", "'5e-6' should be a valid number; YAML reads it as text: write 5.0e-06"),
        ("run.full_size", "true", "'true' should be a valid boolean; YAML reads it as text: write true"),
        ("training.tune", "adapter", "'adapter' should be 'all' or 'lora'"),
        ("weights.tiny", "", "'' should have at least 1 character"),
        ("benchmarks.tables", config()["benchmarks"]["shapes"], "'tables' should have only a-z, 0-9 and -, and not be"),
        ("variants.frames", {}, "'frames' should have only a-z, 0-9, _ and -, and neither be frames "),
        ("variants.a-seed-1", {}, "'a-seed-1' should have only"),
        ("variants.baseline.shift", "shift", "'shift' should be 'temporal_shift', 'tok"),
        ("seeds", [1, 2, 1], "1 is there twice"),
        # names
        ("run.variants", ["kmedoid"], "'kmedoid' is not one of zeroshot, baseline"),
        ("run.variants", "other", "'other' is not one of bench"),
        ("run.variants", "kmedoids", "kmedoids is a variant, not one of `lists`: write [kmedoids]"),
        ("run.benchmarks", ["msrvt"], "'msrvt' is not one of shapes"),
        ("run.grids", ["depth"], "'depth' is not one of block, clusters"),
        ("lists.bench", ["other"], "'other' is not one of zeroshot, "),
        ("grids.block.of", "kmeans", "'kmeans' is not one of zeroshot"),
        ("grids.block.of", "baseline", "baseline has no stage whose block could"),
        ("variants.kmedoids-block-2", {}, "is called like a point of the grid block"),
        ("variants.frames-8.against", "base", "'base' is not one of zeroshot"),
        *(("variants.frames-8.against", name, f"{name} is not a baseline")
          for name in ("zeroshot", "kmedoids", "tome", "token_shift", "frames-6", "frames-8")),
        # backbones and weights
        ("backbone", "../ViT-B-16", "'../ViT-B-16' is no backbone; try "),
        ("backbone", "ViT-B-32-quickgelu", "ViT-B-32-quickgelu is called ViT-B-32 here"),
        (
            "backbone",
            "convnext_tiny",
            "convnext_tiny does not work here, as its video side, timm's convnext_tiny, is no plain sequence of",
        ),
        ("weights.ViT-X", None, "'ViT-X' is no backbone; try"),
        (L14, "openai", "OpenAI's were trained with quick_gelu, where ViT-L-14 has gelu: name the backbone ViT-L-14-q"),
        (B32, "datacomp_xl_s13b_b90k", "trained with gelu, where ViT-B-32 has quick_gelu: name the backbone ViT-B-32-"),
        (L14, "hf-hub:a/../b", "'hf-hub:a/../b' is not hf-hub:ORG/NAME"),
        ("weights.tiny", "openai", "'openai': no weights of tiny are published"),
        (B32, "none.pt", "none.pt (in "),
        (B32, "/dev", "/dev: Is a directory"),
        # benchmarks
        ("benchmarks.shapes.source.reader", "folders", "'folders' should be one of 'shapes', 'folder'"),
        ("benchmarks.msrvtt7k.dataset", "msvd", "msvd is read by msvd, not msrvtt"),
        ("benchmarks.msrvtt7k.fps", 3, "is that of msrvtt"),
        ("benchmarks.msrvtt7k.source.local", {"videos": "videos"}, "belongs to msrvtt, whose files are used"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_file_and_key(tmp_path, key, value, told):
    assert complaint(tmp_path, nested(key, value)).startswith(f"mine.yaml: {key}: {told}")


@pytest.mark.parametrize(
    ("key", "text"),
    [("epochs", "1e1"), ("epochs", "5.5"), ("epochs", "true"), ("epochs", "007"), ("lr", "1e400"), ("lr", "[1]")],
)
def test_text_that_does_not_fit_as_a_number_either_gets_no_hint(tmp_path, key, text):
    assert complaint(tmp_path, nested(f"training.{key}", text)).endswith(("a valid integer", "a valid number"))


@pytest.mark.parametrize(
    ("overlay", "line"),
    [
        (nested("seeds", ["one"]), "seeds.0: 'one' should be a valid integer"),
        (nested("training.where", ["q", "x"]), "training.where.1: 'x' should be 'q', 'k' or 'v'"),
        (nested("variants.baseline.segment_frames", 2), "variants.baseline.stages: missing"),
        (nested("benchmarks.mine.source", {"reader": "folder", "videos": "v"}), "mine.source.captions: missing"),
        (
            nested("grids.block.values", ["x"]),
            "mine.yaml: grids.block.values: kmedoids-block-x.stages.0.block: 'x' should be a valid integer",
        ),
        (nested("benchmarks.mine", MSRVTT | {"dataset": "msrvt"}), "mine.dataset: 'msrvt' is not one of shapes, msvd"),
        (
            nested("benchmarks.mine", MSRVTT | {"dataset": "msrvtt7k"}),
            "benchmarks.mine.dataset: msrvtt7k has no files of its own, but those of msrvtt",
        ),
        (
            nested("training.loss", "sigmoid"),
            "training.loss: baseline on shapes: loss sigmoid: ViT-B-32 has no",
        ),
        (
            nested("backbone", "ViT-B-32-gelu"),
            "weights.ViT-B-32-gelu: zeroshot on shapes: missing: what ViT-B-32-gelu starts",
        ),
        (
            {"backbone": "ViT-L-14", "weights": {"ViT-L-14": "datacomp"}},
            "weights.ViT-L-14: open_clip has no weights 'datacomp' of ViT-L-14, but laion400m_e31, ",
        ),
        (
            {"run": {"grids": ["block"]}, "grids": {"block": {"sets": "blok"}}},
            "grids.block: kmedoids-block-1 on shapes: kmedoids has no option 'blok'; it has distance",
        ),
        (
            {"variants": {"spectral": {"schedule": {"name": "tome"}}}},
            "variants.spectral.schedule: spectral on shapes: a variant has either stages or a schedule",
        ),
        (
            {"variants": {"kmedoids": {"shift": "token_shift", "stages": [{"algorithm": "tome", "inside": True}]}}},
            "variants.kmedoids.shift: kmedoids on shapes: shift token_shift runs whole blocks: no stage is inside one",
        ),
        (
            {"variants": {"rlt": {"segment_frames": 2}}, "run": {"variants": ["rlt"]}},
            "mine.yaml: variants.rlt.segment_frames: rlt on shapes: segment_frames needs the `segments` of the first",
        ),
        (
            nested("variants.baseline.image_size", 200),
            "baseline.image_size: baseline on shapes: image_size 200 is not a multiple of 32, the patch size of ViT-B",
        ),
    ],
)
def test_a_mistake_inside_a_value_or_of_two_keys_is_told_at_the_key_that_says_it(tmp_path, overlay, line):
    assert line in complaint(tmp_path, overlay)


@pytest.mark.parametrize(
    ("stage", "place", "told"),
    [
        ({"algorithm": "token_shift"}, "algorithm", "algorithm 'token_shift' is not one of dpc_knn, "),
        ({"segments": 5}, "segments", "segments 5 does not divide the 12 frames"),
        ({"clusters": 148}, "clusters", "clusters 148 is more than the 147 tokens"),
        ({"block": 12}, "block", "block 12: stages need different blocks from 0 to"),
        ({"options": {"sigma": 2}}, "options.sigma", "kmedoids has no option 'sigma'; it"),
        ({"options": {"distance": "banana"}}, "options.distance", "'banana' should be 'euclidean' or 'cosine' or be a"),
        ({"options": {"distance": 0.5}}, "options.distance", "0.5 should be 'euclidean' or 'cosine' or be greater"),
        ({"options": {"normalise": 1}}, "options.normalise", "1 should be a valid boolean"),
        ({"algorithm": "pooling", "clusters": 48}, "clusters", "pooling keeps every patch: clusters must be 49"),
        ({"sees": "keys"}, "sees", "sees keys: only a stage inside a block does"),
        ({"keep": "attention"}, "", "keep attention: only a stage inside a block has [CLASS]'s attention"),
        ({"algorithm": "evit"}, "", "evit: only a stage inside a block has [CLASS]'s attention"),
        ({"remove": 3, "clusters": 5}, "", "a stage has either clusters or remove"),
        ({"algorithm": "tome", "clusters": 9}, "clusters", "tome removes half of the 147 tokens of a segment at most"),
        ({"algorithm": "rlt", "block": 2}, "block", "rlt is given pixels: at block 0, and without other keys than"),
        ({"classes": "all", "segments": 1, "embedding": True, "remove": 3}, "embedding", "embedding needs `clusters`"),
        ({"clip_embedding": 3}, "clip_embedding", "clip_embedding 3: the stage is given 12 frames"),
    ],
)
def test_a_stage_that_does_not_fit_is_told_at_its_key(tmp_path, stage, place, told):
    line = complaint(tmp_path, variant(**stage))
    assert line.startswith(f"mine.yaml: variants.kmedoids.stages.0.{place}".rstrip("."))
    assert f": kmedoids on shapes: {told}" in line


@pytest.mark.parametrize(
    ("overlay", "place"),
    [
        (nested("training.gpus", 3), "training.gpus: baseline"),
        (nested("variants.baseline.training.gpus", 3), "variants.baseline.training.gpus: baseline"),
        (nested("benchmarks.shapes.training.gpus", 3), "benchmarks.shapes.training.gpus: baseline"),
        (nested("benchmarks.shapes.text_tokens", 78), "benchmarks.shapes.text_tokens: zeroshot"),
        (nested("benchmarks.shapes.frames", 7), "benchmarks.shapes.frames: kmedoids"),
        (nested("benchmarks.shapes.stage.segments", 5), "benchmarks.shapes.stage.segments: kmedoids"),
        (nested("variants.kmedoids.frames", 7), "variants.kmedoids.frames: kmedoids"),
        (nested("backbone", "tiny"), "backbone: kmedoids"),
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
    ("package", "overlay", "line"),
    [
        (
            "transformers",
            {"backbone": "ViT-B-16-SigLIP2", "weights": {"ViT-B-16-SigLIP2": None}, "run": {"variants": ["baseline"]}},
            "mine.yaml: backbone: baseline on shapes: the text side of ViT-B-16-SigLIP2 needs transformers: ",
        ),
        (
            "pyarrow",
            {"run": {"benchmarks": ["vatex"]}, "weights": {"ViT-B-32": None}},
            "config.yaml: benchmarks.vatex.source.reader: zeroshot on vatex: the reader hub needs pyarrow: pip install",
        ),
    ],
)
def test_a_missing_package_is_told_before_anything_runs(tmp_path, monkeypatch, package, overlay, line):
    """Only the cells of the run are checked here. Plan.misfit checks another cell when it is a target."""
    monkeypatch.setitem(sys.modules, package, None)  # hides it
    assert complaint(tmp_path, overlay).removeprefix(f"{BASE.parent}/").startswith(line)
    settings = config(overlay, {"run": {"benchmarks": ["shapes"], "variants": ["baseline"]}, "backbone": "tiny"})
    check_config(settings, {"mine.yaml": settings})
    whole = config(overlay)
    made = cell(whole, whole["run"]["benchmarks"][0], "baseline")
    assert f"needs {package}: pip install" in Plan(whole).misfit(made)
    check_config(whole, {"mine.yaml": whole}, packages=False)  # jobs use another Python's
    assert not Plan(whole, packages=False).misfit(made)


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


def test_a_mistake_in_the_first_file_is_its_own(tmp_path):
    wrong, right = tmp_path / "first.yaml", tmp_path / "second.yaml"
    wrong.write_text(yaml.safe_dump(config({"seeds": [-1]})))
    right.write_text(yaml.safe_dump({"select": "last"}))
    with pytest.raises(UserError, match=r"first\.yaml: seeds.0: -1 should be greater than or equal to 0"):
        check_config(config({"seeds": [-1], "select": "last"}), read_yaml([wrong, right]))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"seeds": [-1]}, "seeds.0: -1 should be greater than or equal to 0$"),
        ({"stall_seconds": "fast"}, "stall_seconds: 'fast' should be a valid number$"),
        ({"training": {"lr": "1; 2"}}, "training.lr: '1; 2' should be a valid number; Snakemake takes what is in bra"),
        ({"training": {"lr": "1e-3"}}, "training.lr: '1e-3' should be a valid number; Snakemake takes what is in bra"),
    ],
)
def test_what_no_file_has_was_given_on_the_command_line(given, told):
    with pytest.raises(UserError, match=f"^--config: {told}"):
        check_config(config(given), read_yaml([BASE]))


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
    for name in ("tempme", "kmedoids", "tome", "baseline"):
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
        ("stall_seconds: 60\nstall_seconds: 7\n", "not YAML: line 2, column 1: the key 'stall_seconds' is there twice"),
        ("run:\n\tfull_size: true\n", r"not YAML: line 2, column 1: found character '\t' that cannot start any token"),
        ("seeds: [2026-11-30]", "seeds.0: YAML reads it as a date: in quotes it is text"),
        ("# nothing yet", "empty, which Snakemake does not take: write at least {}"),
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
