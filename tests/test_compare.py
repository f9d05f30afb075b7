"""`centerclip compare`: flips worked by hand, seeds in pairs, vectors of other programs, mistakes in one line."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from support.ranks import answered

from centerclip import cli
from centerclip.command import write_json
from centerclip.evaluate import ranks
from centerclip.evaluate.ranks import Flip, flips

MANIFEST = """split,video_id,path,start_s,end_s,caption_id,caption
test,v0,v0.mp4,0.0,,c0,a red star
test,v1,v1.mp4,0.0,,c1,a blue cross
"""


@pytest.fixture
def write(tmp_path):
    """Writes a result of shapes and its ranks: the path of the json."""

    def written(variant, found, seed=42, **more):
        file = tmp_path / f"shapes_{variant}-{seed}.json"
        settings = {"benchmark": "shapes", "variant": variant, "seed": seed}
        write_json(file, {"settings": settings})
        ranks.write(ranks.beside(file), answered(found, **more))
        return file

    return written


def rows_of(printed):
    """The cells of each line of a table's body, by the first of them."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if "|" in line]
    return {name: cells for name, *cells in lines[2:]}


def test_flips_worked_by_hand():
    """Captions 0 to 4 are gained, lost, kept, gained from further behind, and better without being first."""
    before = answered([2, 1, 1, 9, 8])
    after = answered([1, 3, 1, 1, 2])
    for model, wrong in ((before, "before"), (after, "after")):
        found = model["text_to_video"]
        answer = np.where(found.rank == 1, found.videos, wrong)
        model["text_to_video"] = found._replace(answer=answer)
    order = [4, 2, 0, 1, 3]
    after["text_to_video"] = type(found)(*(array[order] for array in after["text_to_video"]))
    gained, lost = flips(before, after, "text_to_video")
    assert gained == [Flip("c3", "v3", 9, 1, "before"), Flip("c0", "v0", 2, 1, "before")]
    assert lost == [Flip("c1", "v1", 1, 3, "after")]


def test_two_results_have_a_table_a_verdict_and_flips(write, run, tmp_path):
    files = write("baseline", [1, 2, 2, 2]), write("mine", [2, 1, 1, 1])
    (tmp_path / "shapes").mkdir()
    (tmp_path / "shapes/manifest.csv").write_text(MANIFEST)
    printed = run("compare", *files, "--flips", 2, "--out", tmp_path / "out")
    assert rows_of(printed)["t2v R@1"][:3] == ["25.0", "75.0", "+50.0"]
    assert "One training each: training noise is not in the interval." in printed
    assert "t2v R@1: mine and baseline cannot be told apart by 4 captions; about" in printed
    large = run("compare", write("baseline", [1] * 40 + [2] * 60, 7), write("mine", [1] * 80 + [2] * 20, 7))
    assert "t2v R@1: mine is 40.0 points above baseline: told apart." in large
    assert rows_of(large)["t2v R@1"][-1] == "<0.001" and rows_of(large)["t2v R@5"][-1] == "1.000"
    assert "text to video: of 4 queries mine gains 3 at rank 1 and loses 1." in printed
    assert "- gained, rank 2 → 1: “a blue cross” of v1; baseline finds v1" in printed
    assert "- gained, rank 2 → 1: c2; baseline finds v2" in printed  # the manifest does not have it
    assert "- lost, rank 1 → 2: “a red star” of v0; mine finds v0" in printed
    assert (tmp_path / "out.md").read_text() == printed
    table = pd.read_csv(tmp_path / "out.csv").set_index("metric")
    assert table.loc["R-sum", ["of_baseline", "of_model", "difference"]].tolist() == [525, 575, 50]
    assert table.loc["t2v R@1", ["seeds", "queries", "videos"]].tolist() == [1, 4, 4]


def test_seeds_are_compared_in_pairs_where_both_have_them(write, run):
    """Of seed 1 the difference is 10 points, of seed 2 it is 30; seeds 0 and 3 are of one model alone."""
    of_seed = {seed: np.repeat([1, 2], [count, 10 - count]) for seed, count in enumerate((9, 2, 4, 9))}
    own = {1: np.repeat([1, 2], [3, 7]), 2: np.repeat([1, 2], [7, 3]), 3: np.ones(10)}
    files = [write("baseline", of_seed[seed], seed) for seed in (0, 1, 2)]
    files += [write("mine", found, seed) for seed, found in own.items()]
    printed = run("compare", *files)
    assert rows_of(printed)["t2v R@1"][:3] == ["30.0 ± 14.1", "50.0 ± 28.3", "+20.0 ± 14.1"]
    assert "2 trainings each, of seeds 1, 2: ± is their standard deviation" in printed
    assert "text to video, seed 1: of 10 queries mine gains 1 at rank 1 and loses 0." in printed


def test_vectors_of_other_programs_and_ranks_alone(run, tmp_path, write):
    """Three texts of two videos: `good` finds all, `bad` confuses the videos; a row a caption is grouped."""
    good = {"texts": np.eye(2)[[0, 0, 1]], "videos": np.eye(2), "video_of_text": [0, 0, 1]}
    rows = {"texts": good["texts"], "videos": np.eye(2)[[0, 0, 1]], "video_of_text": [0, 1, 2]}
    for name, vectors in (("bad", good | {"texts": np.eye(2)[[1, 1, 1]]}), ("good", good), ("rows", rows)):
        np.savez(tmp_path / f"{name}.npz", **vectors)
    for name in ("good", "rows"):
        printed = run("compare", tmp_path / "bad.npz", tmp_path / f"{name}.npz", "--group-equal-videos", "--flips", 1)
        assert rows_of(printed)["t2v R@1"][:3] == ["33.3", "100.0", "+66.7"]
        assert "- gained, rank 2 → 1: 0; bad.npz finds 1" in printed
    files = write("baseline", [1, 2]), ranks.beside(write("mine", [1, 1]))
    assert rows_of(run("compare", *files))["t2v R@1"][:3] == ["50.0", "100.0", "+50.0"]


def test_models_that_do_not_compare_are_one_line(write, mistake, tmp_path):
    baseline, other, unseeded = write("baseline", [1, 2]), write("other", [1, 2, 3]), write("mine", [1, 2], seed=1)
    line = mistake(cli.main, "compare", baseline, other)
    assert line == f"error: {baseline} and {other}: text_to_video: the queries are not the same"
    assert mistake(cli.main, "compare", baseline, unseeded).endswith(f"{unseeded}: no seed in common: 42; 1")
    assert "same model" in mistake(cli.main, "compare", baseline, write("baseline", [1, 2], seed=1))
    ranks.beside(other).unlink()
    line = mistake(cli.main, "compare", baseline, other)
    assert line.startswith(f"error: {ranks.beside(other)}: no such file; make it again by your snakemake command with")
    assert line.endswith("results/shapes_other-42.ranks.npz as its only target")
    write_json(other, {"benchmark": "shapes"})
    assert f"{other}: not a result, such as" in mistake(cli.main, "compare", baseline, other)
    assert mistake(cli.main, "compare", baseline, tmp_path / "none.json").endswith(
        "none.json: No such file or directory"
    )


def test_results_are_compared_without_torch():
    code = "import centerclip.commands.compare, centerclip.report.compare, sys; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
