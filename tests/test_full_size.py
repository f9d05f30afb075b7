"""What the paper's models cost here beside what they cost there: shares by hand, and how they are shown and drawn."""

import json
import re

import matplotlib
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from support.results import CONFIG, FULL_SIZE, PAPER_CSV, costs, full_size_table

from centerclip import cli
from centerclip.command import UserError
from centerclip.report import full_size
from centerclip.report.plots import full_size as plot
from centerclip.settings.config import full_size as models
from centerclip.settings.resolve import cell

matplotlib.use("Agg")


def test_the_models_are_the_papers_whatever_a_run_changes():
    """`zeroshot` and `baseline` are one network, by whose times a busy machine is noticed."""
    assert models() == [cell(CONFIG, "msrvtt", name) for name in FULL_SIZE]
    assert {(made.model.backbone, made.data.frames) for made in models()} == {("ViT-B-32", 12)}
    first, second = models()[:2]
    assert first.model == second.model and not first.trained and second.baseline


def test_shares_are_of_the_baseline_here_and_of_the_papers_there():
    """In the paper 24.4 -> 22.9 and 40.8 ms, 20.8 -> 15.0 and 14.9 GB."""
    shares = full_size.shares(full_size_table()).set_index(["cost", "variant"])
    assert shares["here"].to_dict() == {
        ("time", "kmedoids-s4"): pytest.approx(18 / 19),
        ("time", "spectral-s4"): pytest.approx(17 / 19),
        ("memory", "kmedoids-s4"): pytest.approx(300 / 350),
        ("memory", "spectral-s4"): pytest.approx(250 / 350),
        ("operations", "kmedoids-s4"): pytest.approx(98 / 99),
        ("operations", "spectral-s4"): pytest.approx(97 / 99),
    }
    paper = [22.9 / 24.4, 40.8 / 24.4, 15.0 / 20.8, 14.9 / 20.8]
    assert shares["paper"].dropna().tolist() == pytest.approx(paper)
    assert not shares["busy"].any()


def test_on_a_gpu_the_memory_of_training_is_compared_too():
    shares = full_size.shares(full_size_table(training_gb=8.0)).set_index(["cost", "variant"])
    assert shares.loc[("GPU memory", "kmedoids-s4"), ["here", "paper"]].tolist() == pytest.approx([1, 15.0 / 20.8])


def test_people_see_each_share_beside_the_papers():
    shown, notes = full_size.document(full_size_table())
    assert shown.text.columns.tolist() == [
        *("variant", "ms", "time, here", "time, paper", "saved, MB", "memory, here", "memory, paper"),
        *("GFLOPs", "operations, here"),
    ]
    assert shown.text.iloc[0].tolist() == ["baseline", "19.0", "", "", "350.0", "", "", "99.000", ""]
    assert shown.text.iloc[1, :6].tolist() == ["kmedoids-s4", "18.0", "0.95", "0.94", "300.0", "0.86"]
    assert "ViT-B-32 on 12 frames with random weights, on this machine (a CPU, 2 threads)" in notes
    assert "busy" not in notes


def test_a_busy_machine_is_named_and_its_times_tell_nothing():
    shown, notes = full_size.document(full_size_table(busy=True))
    assert shown.text["ms"].tolist() == ["19.0 (busy)", "18.0 (busy)", "17.0 (busy)"] and "(busy) are wrong" in notes
    assert shown.text[["time, here", "time, paper"]].to_numpy().T.tolist() == [["", "", ""], ["", "0.94", "1.67"]]
    first, _ = full_size.savings(full_size_table(busy=True))
    assert first.startswith("kmedoids-s4 takes an unknown share, the machine being busy, of the baseline's time (0.94")
    figure = plot.draw(full_size_table(busy=True))
    assert {text.get_text() for text in figure.axes[0].texts if text.get_text()} == {"0.94", "1.67"}
    assert "in 19 ms (busy)" in " ".join(figure.get_supxlabel().split())
    assert "(busy)" in figure.axes[0].get_xlabel() and "(busy)" not in figure.axes[1].get_xlabel()
    plt.close("all")


def test_what_is_saved_in_words():
    assert full_size.savings(full_size_table()) == [
        "kmedoids-s4 takes 0.95 of the baseline's time (0.94 in the paper), 0.86 of the baseline's memory (0.72 in the"
        " paper), 0.99 of the baseline's operations",
        "spectral-s4 takes 0.89 of the baseline's time (1.67 in the paper), 0.71 of the baseline's memory (0.72 in the"
        " paper), 0.98 of the baseline's operations",
    ]


def test_bars_are_the_shares_here_and_published():
    figure = plot.draw(full_size_table())
    drawn = [[[round(bar.get_width(), 2) for bar in bars] for bars in axes.containers] for axes in figure.axes]
    assert drawn[:2] == [[[0.95, 0.89], [0.94, 1.67]], [[0.86, 0.71], [0.72, 0.72]]] and drawn[2][0] == [0.99, 0.98]
    labels = [{text.get_text() for text in axes.texts} for axes in figure.axes]
    assert labels == [{"0.95", "0.89", "0.94", "1.67"}, {"0.86", "0.71", "0.72"}, {"0.99", "0.98"}]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["kmedoids-s4", "spectral-s4"]
    caption = " ".join(figure.get_supxlabel().split())
    assert "Here: a CPU, 2 threads" in caption and "in 19 ms with 99 GFLOPs and keeps 350 MB" in caption
    plt.close("all")


@pytest.mark.parametrize("rows", [slice(1), slice(1, None)])
def test_bars_need_a_baseline_and_another_model(rows):
    with pytest.raises(UserError, match="a baseline and another variant"):
        plot.draw(full_size_table()[rows])


def test_the_commands_write_the_table_and_its_plot(tmp_path, monkeypatch, mistake):
    def run(*words):
        monkeypatch.setattr("sys.argv", ["centerclip", *words])
        cli.main()

    monkeypatch.chdir(tmp_path)
    (tmp_path / "compared.json").write_text(json.dumps([model.cost_settings() for model in models()]))
    (tmp_path / "costs.json").write_text(json.dumps(costs(*FULL_SIZE)))
    files = ["--paper", str(PAPER_CSV), "--cells", "compared.json", "--costs", "costs.json"]
    run("full-size", *files, "--out", "out")
    run("plot", "full_size", "--table", "out.csv", "--variants", *FULL_SIZE, "--out", "out.png", "out.svg")
    wrong = mistake(cli.main, "plot", "training", "--table", "out.csv", "--variants", "baseline", "--out", "t.png")
    assert wrong == "error: --cells is missing: only the plot full_size does without"
    assert {path.suffix for path in tmp_path.glob("out.*")} == {".csv", ".html", ".md", ".tex", ".png", ".svg"}
    assert full_size.savings(pd.read_csv(tmp_path / "out.csv")) == full_size.savings(full_size_table())
    assert re.search(r"\| kmedoids-s4 \|\s+18.0 \|\s+0.95 \|\s+0.94 \|", (tmp_path / "out.md").read_text())
