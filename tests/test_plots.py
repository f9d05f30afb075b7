"""Plots show the numbers they were given: what is drawn is read back and held against a made-up table."""

import subprocess
import sys
from dataclasses import replace
from itertools import product

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from support.cells import STAGE, tiny_cell

from centerclip import cli
from centerclip.command import UserError, write_json
from centerclip.method.stage import Model
from centerclip.report import plots
from centerclip.report.plots import ablation, cost, recall, recall_at_k, recall_vs_cost, style, training
from centerclip.settings import layout

matplotlib.use("Agg")

TABLE = """\
variant,frames,block,segments,clusters,trained,baseline,epoch,tokens,saved_mb,training_gb,gflops,ms,ms_low,ms_high,clustering_share
zeroshot,6,,,,False,False,,1200,8.0,,1.0,4.0,3.9,4.5,
baseline,6,,,,True,True,5,1200,8.0,,1.0,4.0,3.8,4.4,
kmedoids,6,2,2,49,True,False,5,800,6.0,,0.7,3.0,2.5,3.2,0.02
spectral,6,2,2,49,True,False,4,800,6.0,,0.8,5.0,4.9,6.0,0.4
other,3,2,1,49,True,False,4,400,3.0,,0.4,2.0,1.9,2.1,0.05
"""
UNITS = ("number of answers", "% of queries", "MB / video", "GFLOPs / video", "ms / video", "(%)",
         "% of the baseline's", "(nats)", "epoch", "(GB)")  # fmt: skip


@pytest.fixture
def csv(tmp_path):
    """A table of the columns that plots read; the published numbers are the baseline's and kmedoids'."""
    (tmp_path / "toy.csv").write_text(TABLE)
    table = pd.read_csv(tmp_path / "toy.csv").assign(benchmark="toy", backbone="tiny")
    table["group"] = table["frames"].map("{} frames".format)
    for number, direction in enumerate(("t2v", "v2t")):
        for more, k in ((0, "R@1"), (30, "R@5"), (45, "R@10")):
            table[f"{direction} {k}"] = [2.0 + more, 40 + more, 42 + more, 41.5 + more, 38 + more]
            table[f"{direction} {k}"] += number
            table[f"paper {direction} {k}"] = [np.nan, 43 + more, 44 + more, np.nan, np.nan]
    table["paper training_gb"] = [np.nan, 20, 15, np.nan, np.nan]
    table["paper ms"] = [np.nan, 25, 20, np.nan, np.nan]
    table.to_csv(tmp_path / "toy.csv", index=False)
    return tmp_path / "toy.csv"


@pytest.fixture
def table(csv):
    yield style.read_table(csv)
    plt.close("all")


def widths(axes) -> list[list[float]]:
    """Lengths of the horizontal bars, a list for each time that bars were drawn."""
    return [[bar.get_width() for bar in bars] for bars in axes.containers if hasattr(bars, "patches")]


def whiskers(axes, axis: int = 0) -> list[list[float]]:
    """Both ends of each whisker, in the order of drawing."""
    segments = (line for collection in axes.collections for line in collection.get_segments())
    return [line[:, axis].tolist() for line in segments if len(line)]


def marks(axes, hollow: bool = False) -> list[tuple[float, float]]:
    """Where single marks are, such as of one variant."""
    single = [line for line in axes.lines if len(line.get_xdata()) == 1 and line.get_marker() != "None"]
    drawn = [line for line in single if (line.get_markerfacecolor() == "none") == hollow]
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in drawn]


def curves(axes) -> list[list[float]]:
    lines = (line for line in axes.lines if line.get_linestyle() != "None" and len(line.get_xdata()) > 1)
    return [list(line.get_ydata()) for line in lines]


def test_recall_is_bars_of_each_k_with_published_marks_and_numbers(table):
    figure = recall.draw(table.assign(**{"t2v R@10 std": [0, 1, 2, 3, 0.5]}))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == table["variant"].tolist()
    for axes, short in zip(figure.axes, ("t2v", "v2t"), strict=True):
        assert widths(axes) == [table[f"{short} {k}"].tolist() for k in ("R@10", "R@5", "R@1")]
        published = [[x for x in line.get_xdata() if x == x] for line in axes.lines if line.get_marker() in "osD"]
        assert published == [[88, 89], [73, 74], [43, 44]]
        expected = [f"{table.loc[1, f'{short} {k}']:.1f}" for k in ("R@1", "R@5", "R@10")]
        assert axes.texts[1].get_text().split() == expected
    seeds = [ends for ends in whiskers(figure.axes[0]) if ends[0] != ends[1]]
    assert seeds == [[84, 86], [85, 89], [83.5, 89.5], [82.5, 83.5]]


def test_recall_at_k_is_a_curve_a_variant_and_published_marks(table):
    figure = recall_at_k.draw(table.assign(**{"t2v R@20": [50, 95, 96, 97, 98]}))
    for axes, short, ks in zip(figure.axes, ("t2v", "v2t"), ([1, 5, 10, 20], [1, 5, 10]), strict=True):
        assert [curve[:3] for curve in curves(axes)] == table[[f"{short} R@{k}" for k in (1, 5, 10)]].values.tolist()
        assert marks(axes, hollow=True) == [(1, 43), (1, 44), (5, 73), (5, 74), (10, 88), (10, 89)]
        assert [label.get_text() for label in axes.get_xticklabels()] == list(map(str, ks))
    title = "toy: the right video is among the first 10 for 83 to 87 % of the sentences, by the trained models"
    assert " ".join(figure.get_suptitle().split()) == title


def test_whiskers_are_intervals_where_a_table_has_any(table):
    """From 3 below to 1 above; a variant without an interval has no whiskers."""
    known = table["t2v R@1"].where(table["variant"] != "spectral")
    table = table.assign(**{"t2v R@1 low": known - 3, "t2v R@1 high": known + 1, "t2v R@1 std": 9})
    of_recall, of_cost = recall.draw(table), recall_vs_cost.draw(table)
    ends = [ends for ends in whiskers(of_recall.axes[0]) if ends[0] == ends[0]]
    assert ends == [[-1, 3], [37, 41], [39, 43], [35, 39]]
    trained = [ends for ends in whiskers(of_cost.axes[0], axis=1) if ends[0] == ends[0]]
    assert trained == [[37, 41], [39, 43]]  # with a baseline
    assert all("95 % interval over queries" in " ".join(f.get_supxlabel().split()) for f in (of_recall, of_cost))


@pytest.mark.parametrize(
    ("half", "of_recall", "of_cost"),
    [
        (None, "the right answer is first for 2 to 42 % of the sentences", "recall against cost"),
        (
            9.0,
            "no difference in R@1 to the baseline is larger than its 95 % interval",
            "none of the 2 models that save memory gains R@1 by more than its 95 % interval",
        ),
        (
            1.7,
            "R@1 is higher than the baseline's with kmedoids; R@1 is lower than the baseline's with other; 1 more"
            " cannot be told apart from it",
            "with a higher R@1, kmedoids keeps 75 % of the baseline's memory",
        ),
    ],
)
def test_a_title_says_of_recall_what_an_interval_supports(half, of_recall, of_cost, table):
    """The difference of the untrained model is not named: it was not trained as the baseline was."""
    known = {} if half is None else {"t2v R@1 difference": [-38, None, 2, 1.5, -2], "t2v R@1 difference half": half}
    table = table.assign(**known)
    for plot, title in ((recall, of_recall), (recall_vs_cost, of_cost)):
        assert " ".join(plot.draw(table).get_suptitle().split()) == f"toy: {title}"


def test_cost_is_bars_with_the_spread_of_time(table):
    figure = cost.draw(table)
    memory, operations, time, share = figure.axes
    for axes, column in ((memory, "saved_mb"), (operations, "gflops"), (time, "ms")):
        assert widths(axes) == [table[column].tolist()]
    np.testing.assert_allclose(widths(share), [[2, 40, 5]])  # per cent
    np.testing.assert_allclose(whiskers(time), table[["ms_low", "ms_high"]])
    assert {"8.0", "0.700", "5.0", "40.0"} <= {text.get_text() for axes in figure.axes for text in axes.texts}
    assert figure.get_suptitle() == "toy: other needs the least memory, 38 % of the baseline's"


def test_a_title_with_many_variants_says_their_number_and_no_power_of_ten(table):
    data = pd.concat([table.iloc[[1]], *[table.iloc[[2]]] * 6], ignore_index=True)
    data["variant"] = ["baseline", *(f"kmedoids-s{number}" for number in range(6))]
    told = {"t2v R@1 difference": [None] + [2.0] * 6, "t2v R@1 difference half": 1}
    assert recall.draw(data.assign(**told)).get_suptitle() == "toy: R@1 is higher than the baseline's with 6 variants"
    assert "with a higher R@1, 6 variants keep 75 %" in recall_vs_cost.draw(data.assign(**told)).get_suptitle()
    two = data.assign(saved_mb=[1234.0] + [222.4] * 6, baseline=[True, True] + [False] * 5)
    assert cost.draw(two).get_suptitle() == "toy: a video takes 222 to 1,234 MB"


@pytest.mark.parametrize("plot", ["cost", "recall_vs_cost", "training"])
def test_a_plot_without_anything_to_draw_is_a_mistake(plot, csv, tmp_path, mistake):
    (cell,) = write_cells(tmp_path, {"zeroshot": []})
    pd.read_csv(csv).assign(saved_mb=np.nan, gflops=np.nan, ms=np.nan).to_csv(csv, index=False)
    words = ["plot", plot, "--table", csv, "--cells", cell, "--out", tmp_path / "a.png", "--variants"]
    assert mistake(cli.main, *words, "zeroshot").startswith(f"error: {csv}: the plot {plot} needs ")
    assert mistake(cli.main, *words[:-2], "a.gfi", "--variants", "zeroshot") == (
        "error: a.gfi: no format of figures ends in '.gfi'; .png does"
    )


def test_gpu_memory_is_shown_where_it_was_measured_and_times_where_they_tell(table):
    assert len(cost.draw(table.assign(training_gb=[np.nan, 10, 8, 8, 4])).axes) == 5
    figure = cost.draw(table.assign(gflops=table["gflops"] / 2))
    assert [axes.get_xlabel().split("\n")[0] for axes in figure.axes] == ["memory kept for the", "operations"]
    assert "Times are only in the table" in figure.get_supxlabel()
    figure = cost.draw(table.assign(busy=[True] + [False] * 4))
    assert [axes.get_xlabel().endswith("(busy)") for axes in figure.axes] == [False, False, True, True]
    assert "Times marked (busy) are wrong" in figure.get_supxlabel()


def test_recall_against_cost_is_relative_to_the_own_baseline(table):
    figure = recall_vs_cost.draw(table)
    expected = {  # baseline, kmedoids, spectral: x, y
        "memory": ([(100, 40), (75, 42), (75, 41.5)], [(100, 43), (75, 44)]),
        "operations": ([(100, 40), (70, 42), (80, 41.5)], [(100, 43), (70, 44)]),  # the paper's are of the same model
    }
    for axes, (ours, published) in zip(figure.axes, expected.values(), strict=True):
        np.testing.assert_allclose(marks(axes), ours)
        np.testing.assert_allclose(marks(axes, hollow=True), published)
    assert "Not shown" in figure.get_supxlabel() and "other, zeroshot." in " ".join(figure.get_supxlabel().split())
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["baseline (1,200)", "kmedoids (800)", "spectral (800)", "hollow: published"]


def test_recall_stands_against_time_where_the_machine_was_quiet(table):
    quiet = table.assign(batch_ms=[3, 3, 2.4, 2.7, 1], measured_on="a CPU", busy=False)
    for data, name, expected in (
        (quiet, "time", [100, 80, 90]),
        (quiet.assign(busy=True), "operations", [100, 70, 80]),
        (quiet.assign(measured_on=["a CPU"] * 4 + ["a GPU"]), "time", [100, 80, 90]),  # a row that is not shown
        (quiet.assign(measured_on=["a CPU"] * 3 + ["a GPU"] * 2), "time", [100, 80]),  # spectral has no baseline there
    ):
        axes = recall_vs_cost.draw(data).axes[1]
        np.testing.assert_allclose([x for x, _ in marks(axes)], expected)
        assert axes.get_xlabel() == f"{name} (% of the baseline's)"
    np.testing.assert_allclose(marks(recall_vs_cost.draw(quiet).axes[1], hollow=True), [(100, 43), (80, 44)])


def write_cells(results, losses: dict[str, list[float]]) -> list:
    """Results, a file a name; NAME-seed-1 is of the variant NAME; no losses: untrained."""
    paths = []
    for name, of_epochs in losses.items():
        epochs = [
            {"epoch": i + 1, "loss": loss, "text_to_video": {"R@1": 10 * i}, "video_to_text": {"R@1": 9 * i}}
            for i, loss in enumerate(of_epochs)
        ]
        cell = tiny_cell(variant=name.removesuffix("-seed-1"), name=name, benchmark="toy", results=results)
        paths.append(cell.path(layout.RESULT))
        write_json(paths[-1], {"training": {"epochs": epochs} if epochs else None, "settings": cell.settings()})
    return paths


def test_training_is_a_line_a_variant_and_the_mean_of_seeds(tmp_path):
    losses = {"zeroshot": [], "baseline": [3, 2], "baseline-seed-1": [5, 3], "kmedoids": [2, 1]}
    figure = training.draw(training.read(None, write_cells(tmp_path, losses)))
    drawn = [curves(axes) for axes in figure.axes]
    assert drawn == [[[4, 2.5], [2, 1]], [[0, 10], [0, 10]], [[0, 9], [0, 9]]]
    assert figure.get_suptitle() == "toy: the loss is lowest after the last epoch for 2 of 2 variants"
    assert "untrained: zeroshot." in " ".join(figure.get_supxlabel().split())
    once = training.draw(training.read(None, write_cells(tmp_path, {"baseline": [3]})))
    assert once.get_suptitle() == "toy: the loss is lowest after the last epoch for 1 of 1 variants"
    plt.close("all")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"block": [1, 2, 4, 6, 8]}, "blocks before the clustering, B"),
        ({"clusters": [9, 16, 25, 36, 49]}, "tokens kept a segment, K"),
        ({"segments": [1, 2, 3, 4, 6]}, "segments a video, S"),
        ({"frames": [4, 8, 12, 16, 24]}, "frames a video"),
    ],
)
def test_ablation_is_recall_and_costs_over_the_setting_that_varies(table, values, words):
    table = table.assign(**({"block": 2, "clusters": 49, "segments": 2, "frames": 6} | values))
    figure = ablation.draw(table)
    (points,) = values.values()
    for axes, right, column in zip(figure.axes[:2], figure.axes[2:], ("saved_mb", "gflops"), strict=True):
        assert axes.get_xlabel() == words
        assert axes.lines[0].get_xdata().tolist() == points and right.lines[0].get_xdata().tolist() == points
        assert axes.lines[0].get_ydata().tolist() == table["t2v R@1"].tolist()
        assert right.lines[0].get_ydata().tolist() == table[column].tolist()
        assert axes.lines[0].get_linestyle() != right.lines[0].get_linestyle()


def test_without_costs_an_ablation_is_recall_alone(table):
    figure = ablation.draw(table.assign(block=[1, 2, 4, 6, 8], saved_mb=np.nan, gflops=np.nan))
    assert [curves(axes) for axes in figure.axes] == [[table["t2v R@1"].tolist()]]
    assert "cost" not in figure.get_suptitle() + figure.get_supxlabel()


@pytest.mark.parametrize(
    ("half", "told"),
    [
        (19, "R@1 is higher at 6 than at 10 blocks before the clustering, B, by 40.0 points"),
        (21, "40.0 points of R@1 from the lowest to the highest blocks before the clustering, B; their 95 % intervals"),
    ],
)
def test_an_ablation_goes_from_the_smallest_value_up_and_says_whether_intervals_are_apart(half, told, table):
    """A table's column of whole numbers with gaps, such as the baseline's, holds floats."""
    intervals = {"t2v R@1 low": table["t2v R@1"] - half, "t2v R@1 high": table["t2v R@1"] + half}
    figure = ablation.draw(table.assign(block=[10.0, 1, 6, 4, 2], **intervals))
    assert curves(figure.axes[0])[0] == [40, 38, 41.5, 42, 2]
    assert " ".join(figure.get_suptitle().split()).startswith(f"toy: {told}")


def test_a_setting_without_a_column_is_read_from_the_cells(csv, tmp_path):
    paths = []
    for name, options in (("baseline", None), ("kmedoids", {"normalise": False}), ("spectral", {"normalise": True})):
        stages = [] if options is None else [replace(STAGE, options=options)]
        cell = tiny_cell(*stages, variant=name, results=tmp_path)
        paths.append(cell.path(layout.RESULT))
        write_json(paths[-1], {"settings": cell.settings()})
    table = ablation.read(csv, paths)
    figure = ablation.draw(table[table["variant"].isin(["kmedoids", "spectral"])])
    assert figure.get_supxlabel().startswith("From kmedoids to spectral only this changes.")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["false", "true"]
    assert axes.get_xlabel() == "normalise"
    plt.close("all")


@pytest.mark.parametrize(
    ("plot", "few"),
    [*product((recall, recall_at_k, cost, ablation), (False, True)), (recall_vs_cost, False)],
)
def test_every_axis_has_a_unit_and_no_text_overlaps_a_panel_or_a_text(table, plot, few):
    """`few`: what a benchmark of one's own may have, a model without training and nothing published."""
    figure = plot.draw(table[:1].dropna(axis="columns").reindex(columns=table.columns) if few else table)
    for axes in figure.axes:
        if plot not in (recall, cost):  # a row a variant
            assert any(unit in axes.get_ylabel() for unit in UNITS)
        if plot is not ablation:  # over blocks, segments, tokens: counts
            assert any(unit in axes.get_xlabel() for unit in UNITS)
    assert figure.get_suptitle().startswith("toy: ") and figure.get_supxlabel()
    figure.draw_without_rendering()
    outside = [figure._suptitle, figure._supxlabel, *figure.legends]
    texts = [text for axes in figure.axes for text in (axes.title, *axes.texts) if text.get_text()]
    boxes = [drawn.get_window_extent() for drawn in (*outside, *texts)]
    panels = [axes.bbox for axes in figure.axes[: len(figure.axes) // (2 if plot is ablation else 1)]]
    assert not any(one.overlaps(other) for number, one in enumerate(boxes) for other in (*boxes[:number], *panels))


def test_a_method_has_one_colour_and_marker_in_every_plot_and_its_settings_are_lighter():
    names = [*style.METHODS, "mine"]
    alone, together = style.looks(["tome"])["tome"], style.looks(names)
    assert together["tome"] == alone and len({look["marker"] for look in together.values()}) == len(style.METHODS)
    assert len({(look["marker"], look["color"]) for look in together.values()}) == len(names)
    first, second = style.looks(["kmedoids-s4 (from random weights)", "kmedoids-s3"]).values()
    assert first["marker"] == second["marker"] == together["kmedoids"]["marker"]
    assert first["color"] == together["kmedoids"]["color"] and sum(second["color"]) > sum(first["color"])
    many = style.looks(f"{method}-s{number}" for number in range(14) for method in ("kmedoids", "spectral"))
    assert list(many)[:2] == ["kmedoids-s0", "spectral-s0"] and len({look["color"] for look in many.values()}) == 28


def test_a_benchmark_has_the_plots_that_its_cells_have_points_for():
    baseline, untrained = tiny_cell(), tiny_cell(training=None)
    shifted = tiny_cell(model=Model("tiny", shift="token_shift"))
    every = ["recall", "recall_at_k", "recall_vs_cost", "cost", "training"]
    assert plots.plots_of([untrained, baseline]) == every
    assert plots.plots_of([untrained, baseline], ["block"], costs=False) == [
        *("recall", "recall_at_k", "training", "ablation-block")
    ]
    assert plots.plots_of([untrained]) == ["recall", "recall_at_k", "cost"]
    assert plots.plots_of([tiny_cell(STAGE), shifted]) == ["recall", "recall_at_k", "cost", "training"]
    assert plots.plots_of([baseline], ["block", "normalise"]) == [*every, "ablation-block", "ablation-normalise"]
    assert [plots.module(name) for name in ("recall", "ablation-block")] == [recall.__name__, ablation.__name__]
    with pytest.raises(UserError, match=r"plot 'ablation' is not one of recall, .*, full_size, ablation-GRID"):
        plots.module("ablation")


@pytest.mark.slow
def test_naming_plots_imports_nothing_heavy_and_drawing_no_other_plot(csv, tmp_path):
    heavy = "[name for name in ('pandas', 'matplotlib', 'seaborn', 'torch') if name in sys.modules]"
    script = f"import sys; from centerclip.report import pictures, plots; print({heavy})"
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout == b"[]\n"
    script = "import importlib, sys; from centerclip.report import plots; importlib.import_module(plots.module('cost'))"
    script += "; print([name for name in sys.modules if name.startswith('centerclip.report')])"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    names = ["", ".plots", ".plots.style", ".plots.cost", ".rows"]
    assert sorted(eval(done.stdout)) == sorted(f"centerclip.report{name}" for name in names)


@pytest.mark.parametrize("plot", ["recall_vs_cost", "training"])
@pytest.mark.slow
def test_the_command_writes_equal_files_again(csv, tmp_path, plot):
    paths = write_cells(tmp_path, {"zeroshot": [], "baseline": [3, 2], "kmedoids": [2, 1]})
    command = [sys.executable, "-m", "centerclip", "plot", plot, "--table", str(csv), "--cells", *map(str, paths)]
    command += ["--variants", "zeroshot", "baseline", "kmedoids"]
    written = []
    for name in ("a", "b"):
        out = [tmp_path / f"{name}.{suffix}" for suffix in ("png", "svg")]
        subprocess.run([*command, "--out", *map(str, out)], check=True)
        written.append([path.read_bytes() for path in out])
    assert written[0] == written[1]
    png, svg = written[0]
    assert png.startswith(b"\x89PNG") and b"</svg>" in svg and b"<dc:date>" not in svg
