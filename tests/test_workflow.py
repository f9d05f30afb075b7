"""The real workflow, as a user runs it, under a small config in a copy of the repository."""

import json
import re
import subprocess
from pathlib import Path

import pandas as pd
from PIL import Image
from support.browser import read_report
from support.gpus import machine
from support.ranks import metrics_of
from support.workflow import (
    METRICS,
    SMALL,
    copy_repository,
    jobs,
    result,
    snakemake,
    typed,
)
from torch.testing import assert_close

from centerclip.evaluate import ranks
from centerclip.evaluate.metrics import RECALLED
from centerclip.report.pictures import PICTURES
from centerclip.report.plots import PLOTS


def test_every_cell_is_complete(finished):
    for variant in SMALL["run"]["variants"]:
        cell = result(finished, variant)
        assert (cell["n_texts"], cell["n_videos"], cell["n_videos_left_out"]) == (48, 12, 0)
        assert cell["n_texts_cut"] == 0
        counted = metrics_of(ranks.read(finished / f"results/shapes_{variant}.ranks.npz"))
        assert_close({key: cell[key] for key in counted}, counted)
        for direction in ("text_to_video", "video_to_text"):
            assert list(cell[direction]) == [*(f"R@{k}" for k in RECALLED), "MdR", "MnR"]
            assert 0 <= cell[direction]["R@1"] <= cell[direction]["R@10"] <= cell[direction]["R@20"] == 100
        assert cell["provenance"]["versions"]["torch"] and cell["settings"]["variant"] == variant
        if variant == "zeroshot":
            assert cell["training"] is None
        else:
            assert cell["training"]["train_texts_cut"] == 0
            epochs = cell["training"]["epochs"]
            chosen = epochs[cell["training"]["selected_epoch"] - 1]
            assert len(epochs) == 2
            assert {key: chosen[key] for key in METRICS[:4]} == {key: cell[key] for key in METRICS[:4]}


def costs(directory: Path) -> pd.DataFrame:
    """The rows of what the variants of `shapes` cost."""
    return pd.DataFrame(json.loads((directory / "results/shapes/costs.json").read_text())["rows"]).set_index("variant")


def test_clustering_costs_less(finished):
    """Counted by hand: test_model.py."""
    table = costs(finished)
    assert 0.6 < table.loc["kmedoids", "gflops"] / table.loc["baseline", "gflops"] < 0.8
    assert table.loc["spectral", "saved_mb"] < 0.75 * table.loc["baseline", "saved_mb"]
    assert table.loc["zeroshot", "gflops"] == table.loc["baseline", "gflops"]


def test_costs_are_measured_beside_nothing_else(finished):
    measured = json.loads((finished / "results/shapes/costs.json").read_text())
    assert measured["threads"] == 2  # all of --cores
    assert [row["variant"] for row in measured["rows"]] == SMALL["run"]["variants"]
    for row in measured["rows"]:
        assert 0 < row["ms_low"] <= row["ms"] <= row["ms_high"] and row["batch_ms"] <= row["ms"]


def test_the_papers_models_are_measured_beside_nothing_else_and_shown_first(finished):
    measured = json.loads((finished / "results/full_size/costs.json").read_text())
    rows = pd.DataFrame(measured["rows"]).set_index("variant")
    assert measured["threads"] == 2 and rows["tokens_per_block"].map(sum).tolist() == [7200, 7200, 4800, 4800]
    table = pd.read_csv(finished / "results/tables/full_size.csv").set_index("variant")
    assert table["ms"].tolist() == rows.loc[table.index, "ms"].tolist()
    assert (finished / "results/plots/full_size.png").read_bytes().startswith(b"\x89PNG")
    found = (finished / "results/tables/findings.md").read_text()
    assert "kmedoids-s4 takes" in found and "0.67 of the baseline's memory (0.72 in the paper)" in found
    assert (finished / "results/tables/summary.md").read_text().startswith(found)


def test_tables_and_plots(finished):
    table = pd.read_csv(finished / "results/tables/shapes.csv").set_index("variant")
    assert list(table.index) == SMALL["run"]["variants"]
    assert table.loc["kmedoids", "v2t MdR"] == result(finished, "kmedoids")["video_to_text"]["MdR"]
    text = (finished / "results/tables/shapes.md").read_text()
    assert f"{table.loc['spectral', 't2v R@5']:.1f}" in text and "48 captions and 12 videos" in text
    for suffix, end in (("html", "</table>"), ("tex", r"\end{tabular}")):
        assert end in (finished / f"results/tables/shapes.{suffix}").read_text()
    assert "| shapes      | tiny " in (finished / "results/tables/summary.md").read_text()
    for plot in PLOTS:
        assert (finished / f"results/plots/shapes_{plot}.png").read_bytes().startswith(b"\x89PNG")
        assert "</svg>" in (finished / f"results/plots/shapes_{plot}.svg").read_text()
    for picture in PICTURES:
        assert Image.open(finished / f"results/plots/shapes_{picture}.png").width > 500


def test_long_jobs_leave_their_time_and_memory(finished):
    for job in ("fetch", "frames/56px_0000", "kmedoids/train", "kmedoids/evaluate", "efficiency"):
        assert pd.read_csv(finished / f"results/benchmarks/shapes/{job}.tsv", sep="\t")["s"].iloc[0] > 0


def test_report_opens_offline_with_every_table_and_plot(finished, tmp_path):
    done = snakemake(finished, "--report", "report.html")
    assert done.returncode == 0, done.stderr
    found = read_report(finished / "report.html", tmp_path)
    assert found["errors"] == found["loaded"] == []
    sentences = (finished / "results/tables/findings.md").read_text().split("\n\n")
    assert len(sentences) == 3 and found["first"]["pictures"] == 1
    assert all(" ".join(sentence.split()) in found["first"]["text"] for sentence in sentences)
    results = {(shown["category"], shown["subcategory"], shown["name"]): shown for shown in found["results"]}
    figures = {key: shown["picture"] for key, shown in results.items() if "picture" in shown}
    drawn = {("shapes", "plots", plot.replace("_", " ")) for plot in PLOTS}
    drawn |= {("full size", "plots", "costs")}
    assert figures.keys() == drawn | {("shapes", "pictures", f"results/plots/shapes_{name}.png") for name in PICTURES}
    assert all(width > 500 and height > 300 for width, height in figures.values())
    (table,) = [shown.get("page") or shown["file"] for key, shown in results.items() if key[:2] == ("shapes", "tables")]
    for variant in SMALL["run"]["variants"]:
        recall = f"{result(finished, variant)['text_to_video']['R@1']:.1f}"
        assert re.search(rf"\b{variant}\b.*?\b{recall}\b", table, re.DOTALL)
    captions = {shown["caption"]: shown["category"] for shown in found["results"]}
    assert len(captions) == len(results)
    of_shapes = {text for text, category in captions.items() if category == "shapes"}
    assert all(re.search(r"\b(on|of) shapes\b", text) for text in of_shapes)


def test_what_would_come_out_empty_is_not_drawn(tmp_path):
    """Of untrained variants no training and no recall beside the baseline's; of sampling no clusters."""
    repository = copy_repository(tmp_path, SMALL)
    for variants, plots in (("zeroshot", len(PLOTS) - 2), ("baseline, pooling, sparse_sampling", len(PLOTS))):
        rules = jobs(repository, "all", "--config", f"run={{variants: [{variants}]}}")
        assert (rules["plot"], rules["picture"]) == (plots, 1)


class TestWhatTheUserTypes:
    """The three commands of the project, literally: dry where data, conda or a cluster are missing."""

    def test_one_cell_of_the_paper(self, tmp_path):
        done = typed(copy_repository(tmp_path, {}), "snakemake results/msrvtt_kmedoids.json --dry-run")
        assert done.returncode == 0, done.stderr
        told = done.stdout + done.stderr
        assert "results/msrvtt/frames/224px/0031.lmdb" in told and "LSMDC" not in told

    def test_all_of_the_paper_on_a_cluster(self, tmp_path):
        """For real: test_slurm.py."""
        done = typed(copy_repository(tmp_path, {}), "snakemake --workflow-profile profiles/slurm all --dry-run")
        assert done.returncode == 0, done.stderr
        told = done.stdout + done.stderr
        assert 100 < int(re.search(r"^total +(\d+)$", told, re.MULTILINE)[1]) < 1500
        assert "lsmdc: set LSMDC_USER and LSMDC_PASSWORD" in told
        assert re.search(r"^frames +488$", told, re.MULTILINE)  # those of MSR-VTT once, for 9k and 7k

    def test_one_cell_from_scratch_in_another_directory_has_the_same_metrics_and_weights(self, finished, tmp_path):
        repository, again = copy_repository(tmp_path / "repository", SMALL), tmp_path / "again"
        line = f"snakemake results/shapes_kmedoids.json --configfile config/demo.yaml small.yaml --directory {again}"
        done = typed(repository, line, machine(tmp_path / "machine", 0))
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("no GPU on this machine: what runs here trains and evaluates on the CPU") == 1
        assert not (again / "results/shapes_baseline.json").exists() and not (repository / "results").exists()
        first, second = ([result(place, "kmedoids")[key] for key in METRICS] for place in (finished, again))
        assert first == second
        weights = "results/shapes/kmedoids/weights.safetensors"
        assert (again / weights).read_bytes() == (finished / weights).read_bytes()


class TestMistakes:
    """Each is one clear line on the terminal, and no traceback."""

    def line(self, done: subprocess.CompletedProcess, expected: str) -> None:
        assert done.returncode != 0
        assert expected in done.stderr + done.stdout
        assert "Traceback" not in done.stderr + done.stdout

    def test_in_the_config(self, tmp_path):
        """All others: test_config.py."""
        repository = copy_repository(tmp_path, {"trainig": {}})
        self.line(snakemake(repository, "--dry-run", "all"), "small.yaml: trainig: unknown key; allowed are run, seed")
        (repository / "small.yaml").write_text("{}")
        done = snakemake(repository, "--dry-run", "all", "--config", "training={gpus: 2}")
        self.line(done, "--config: training.gpus: '2' should be a valid integer; Snakemake takes what is in brackets")

    def test_in_the_target(self, finished):
        for target, expected in (
            ("shapes_kmedoids-s4.json", "segments 4 does not divide the 6 frames"),
            ("shapes/zeroshot/weights.safetensors", "zeroshot is evaluated as it starts, and not trained"),
            ("plots/shapes_ablation-clusters.png", "clusters is not one of run.grids"),
        ):
            self.line(snakemake(finished, "--dry-run", f"results/{target}"), expected)
