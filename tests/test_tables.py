"""A benchmark's table, from results made by hand: what stands beside the paper's numbers and how it is shown."""

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY
from matplotlib import pyplot as plt
from support.ranks import answered
from support.results import PAPER_CSV, PAPER_ROWS, costs, csv_of, result, row, table, unaligned, write_results

from centerclip import cli
from centerclip.command import UserError, write_json
from centerclip.report.beside_paper import comparison, document, elsewhere, notes, shown
from centerclip.report.claims import judgements
from centerclip.report.plots import recall, style
from centerclip.report.rows import DIFFERENCE, INTERVALS, MEASURED, ROLES, STAGE
from centerclip.report.summary import findings
from centerclip.report.tables import (
    PAPER,
    combine,
    description,
    for_programs,
    joined,
    of_baselines,
    read_models,
)
from centerclip.settings import layout
from centerclip.settings.cell import from_settings


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("msrvtt/kmedoids", "kmedoids-s4"),  # the benchmark's default
        ("lsmdc/kmedoids", "kmedoids-s6"),
        ("msrvtt/kmedoids-block-6", "kmedoids-s4"),  # a grid's point that is the default
        ("msrvtt/baseline-b16", "baseline-b16"),
        ("msrvtt/zeroshot", "zeroshot"),
        ("msrvtt/kmedoids-block-2", None),
        ("msrvtt/kmedoids-frames-2", None),
        ("msrvtt/kmedoids-cosine", None),
        ("msrvtt/kmedoids-embedding", None),
        ("msrvtt/kmedoids-progressive", None),
        ("msrvtt/token_shift", None),
        ("msrvtt7k/baseline", None),
    ],
)
def test_a_cell_is_compared_with_the_papers_model_of_the_same_settings(cell, name):
    benchmark, variant = cell.split("/")
    compared = table(result(benchmark, variant, 40)).loc[variant]
    expected = PAPER_ROWS[(PAPER_ROWS["benchmark"] == benchmark) & PAPER_ROWS["variant"].eq(name or "")]
    assert [compared["paper_row"]] == list(expected.index) if name else pd.isna(compared["paper_row"])
    for column in PAPER.values():
        value = expected[column].iloc[0] if name else None
        assert compared[column] == value or (pd.isna(compared[column]) and pd.isna(value))


def test_every_row_of_the_paper_is_found_by_its_settings_and_listed_where_it_has_no_counterpart():
    for benchmark, rows in PAPER_ROWS.groupby("benchmark"):
        models = rows["variant"].dropna().tolist()
        results = [row(result(benchmark, variant, 40)) for variant in models]
        compared, apart = combine(results, costs(*models), PAPER_ROWS)
        assert compared["paper_row"].tolist() == rows.dropna(subset="variant").index.tolist()
        assert elsewhere(apart).text["published"].tolist() == rows[rows["variant"].isna()]["method"].tolist()
        _, apart = combine(results[1:], costs(*models), PAPER_ROWS)
        assert apart["variant"].dropna().tolist() == models[:1]


def test_published_models_have_the_roles_of_their_cells():
    for _, model in PAPER_ROWS[PAPER_ROWS["variant"].notna()].iterrows():
        cell = from_settings(result(model["benchmark"], model["variant"], 40)["settings"])
        assert model[ROLES].to_dict() == {name: description(cell)[name] for name in ROLES}
    tuned = from_settings(result("msrvtt", "kmedoids-lora", 40)["settings"])
    assert tuned.clustering and not description(tuned)["clustering"]  # or its saving would be clustering's
    assert not PAPER_ROWS[PAPER_ROWS["variant"].isna()][["baseline", "clustering"]].any(axis=None)


def test_the_csv_has_the_columns_of_the_demos_for_every_benchmark():
    demo = pd.read_csv(REPOSITORY / "docs/demo/shapes.csv")
    columns = [name for name in demo if not re.search("R@(2|20|50|100)$", name)]
    took = {"training_gb": 20.0, "training_reserved_gb": 22.5, "training_chunk": 64, "step_ms": 300.0}
    made = csv_of(result("msrvtt", "baseline", 40), result("msrvtt", "kmedoids", 41))
    on_gpu = csv_of(result("msrvtt", "baseline", 40), measured=costs("baseline", **took))
    assert list(made) == list(csv_of(result("shapes", "zeroshot", 1))) == list(on_gpu) == columns
    baseline, kmedoids = (made.loc[index] for index in range(2))
    assert kmedoids[["frames", "method", *STAGE]].tolist() == [12, "kmedoids", 6, 4, 49, "kmedoids"]
    assert kmedoids["group"] == "ViT-B-32, 12 frames of 224 px"
    assert kmedoids[["seeds", "best t2v R@1", "last t2v R@1", "train_s", "epoch"]].tolist() == [1, 40, 39, 60, 1]
    assert kmedoids[["tokens", "clustering_share", "batch", "gmacs"]].tolist() == [1100, 0.02, 4, 49.5]
    assert kmedoids["videos_s"] == pytest.approx(1000 / 9) and kmedoids["measured_on"] == "a CPU"
    assert baseline[[*STAGE, "gpu_hours", "kwh", "price", "training_gb", "training_chunk"]].isna().all()
    assert on_gpu.loc[0, list(took)].to_dict() == took
    assert on_gpu.loc[0, ["trainable_m", "state_mb"]].tolist() == [150, 1800]  # a gradient and two moments, of 4 bytes


def test_a_seed_that_is_not_made_leaves_the_others_their_row():
    seeds = result("msrvtt", "baseline", 43, seed=1), result("msrvtt", "baseline", 40, seed=2)
    made, missing = row(seeds[0]), description(from_settings(seeds[1]["settings"]))
    for rows in ([made, missing], [missing, made]):
        (both,) = combine(rows, costs("baseline"), PAPER_ROWS)[0].to_dict("records")
        assert (both["seeds"], both["t2v R@1"], both["paper t2v R@1"], both["variant"]) == (1, 43, 43.0, "baseline")


def test_gpu_hours_and_energy_are_means_of_trainings_and_the_price_is_the_users():
    """1 and 2 hours of 4 GPUs, 3.6 and 7.2 MJ, at 2.50 an hour."""
    seeds = [result("msrvtt", "baseline", 43, seed) for seed in (1, 2)]
    for hours, made in enumerate(seeds, 1):
        made["training"] |= {"gpu_seconds": 4 * 3600.0 * hours, "joules": 3.6e6 * hours}
    rows = list(map(row, [*seeds, result("msrvtt", "kmedoids", 42)]))
    made, apart = combine(rows, None, PAPER_ROWS, gpu_hour_price=2.5)
    assert made.loc[0, ["gpu_hours", "kwh", "price"]].tolist() == [6, 1.5, 15]
    assert made.loc[1, ["gpu_hours", "kwh", "price"]].isna().all()
    lines, words = document(made, apart, None)[:2]
    shown_here = lines.text[["training, GPU-hours", "training, kWh", "training, price"]]
    assert shown_here.iloc[0].tolist() == ["6.00", "1.50", "15.00"] and "at 2.5 each" in words
    assert "training, price" not in comparison(combine(rows, None, PAPER_ROWS)[0]).text


def test_a_row_is_measured_against_the_first_baseline_of_its_group():
    """A shift, a sampling algorithm and a repeated baseline are no baselines of others; a control has the whole one."""
    names = ("zeroshot", "token_shift", "pooling", "baseline", "kmedoids", "baseline-b16", "kmedoids-b16-s4")
    again = result("msrvtt", "baseline", 40)
    again["settings"]["variant"] = "baseline-again"
    fewer = result("msrvtt", "kmedoids-frames-2", 40)  # 2 frames a segment are 8 a video
    controls = (result("msrvtt", name, 40) for name in ("frames-8", "pixels-160", "b32-352"))
    rows = table(*controls, *(result("msrvtt", name, 40) for name in names), again, fewer)
    baselines = of_baselines(rows, ["ms"])["ms"]
    first, larger = rows.loc["baseline", "ms"], rows.loc["baseline-b16", "ms"]
    assert baselines[:3].tolist() == [first, first, larger]
    assert baselines[3:-1].tolist() == [first] * 5 + [larger] * 2 + [first] and pd.isna(baselines.iloc[-1])


def test_a_csv_of_an_earlier_version_has_the_groups_of_backbones_and_frames(tmp_path):
    whole = csv_of(result("msrvtt", "baseline", 43), result("msrvtt", "baseline-b16", 44))
    whole.drop(columns="group").to_csv(tmp_path / "old.csv", index=False)
    assert read_models(tmp_path / "old.csv")["group"].tolist() == ["ViT-B-32, 12", "ViT-B-16, 12"]


def test_several_seeds_are_a_mean_and_its_spread():
    three = [result("msrvtt", "baseline", r1, seed) for seed, r1 in enumerate((40, 41, 45))]
    made = csv_of(*three, result("msrvtt", "kmedoids", 42)).set_index("variant")
    assert made.loc["baseline", ["seeds", "t2v R@1", "v2t R@1", "t2v MdR"]].tolist() == [3, 42, 41, 2]
    assert made.loc["baseline", "t2v R@1 std"] == pytest.approx(((4 + 1 + 9) / 2) ** 0.5)
    assert made.loc["kmedoids", "seeds"] == 1 and pd.isna(made.loc["kmedoids", "t2v R@1 std"])
    assert comparison(table(*three)).text["t2v R@1"].tolist() == ["42.0 ± 2.6", "43.0", "-1.0"]
    assert "mean ± standard deviation of up to 3 seeds" in notes(table(*three), costs())


def ranked(variant: str, seed: int, found: list[int] | None) -> dict:
    """The row of a result on 10 videos of 4 captions each, which have the ranks `found`; without ranks if None."""
    r1 = 25 * (found or [1]).count(1)
    ranks = found and answered(10 * found, captions=4)
    return row(result("msrvtt", variant, r1, seed)) | {"seed": seed, "ranks": ranks}


def test_recall_has_its_interval_and_its_difference_to_the_baseline_by_seeds_of_equal_numbers():
    """Each video has the same ranks, so that all resamples have the same recall. Both models have seed 2."""
    half, three, all_found = [1, 1, 20, 20], [1, 1, 1, 20], [1, 1, 1, 1]
    rows = [ranked("baseline", 1, three), ranked("baseline", 2, half)]
    rows += [ranked("kmedoids", 2, three), ranked("kmedoids", 3, all_found)]
    made, _ = combine(rows, None, PAPER_ROWS)
    text = comparison(made).text.set_index("variant")
    assert text.loc["baseline", "t2v R@1"] == "62.5 [62.5, 62.5] ± 17.7"
    assert text.loc["kmedoids", "t2v R@1"] == "87.5 [87.5, 87.5] ± 17.7"
    assert text["t2v R@1 less the baseline's"].tolist()[::3] == ["-", "+25.0 [25.0, 25.0]"]
    baseline, kmedoids = for_programs(made)[[name for name in INTERVALS if DIFFERENCE in name]].to_numpy().tolist()
    assert kmedoids == pytest.approx([25, 25, 25, kmedoids[3], 1, float("nan"), 0], nan_ok=True) and kmedoids[3] < 0.05
    assert np.isnan(baseline).all()
    assert "Seeds are paired by their numbers. The noise of training is not in the interval." in notes(made, None)
    assert "Each model was trained once." in notes(combine(rows[1:3], None, PAPER_ROWS)[0], None)


def test_without_ranks_there_is_no_interval_and_other_queries_are_a_mistake():
    three = [1, 1, 1, 20]
    rows = [ranked("baseline", 1, three), ranked("kmedoids", 1, three), ranked("kmedoids", 2, None)]
    text = comparison(combine(rows, None, PAPER_ROWS)[0]).text
    assert text["t2v R@1"].tolist()[::3] == ["75.0 [75.0, 75.0]", "50.0 ± 35.4"]
    assert "t2v R@1 less the baseline's" not in text
    with pytest.raises(UserError, match=r"ranks of kmedoids and baseline: .*not the same; evaluate both again"):
        combine([ranked("baseline", 1, three), ranked("kmedoids", 1, [1, 20])], None, PAPER_ROWS)


def test_ours_the_papers_and_the_difference_stand_under_each_other():
    made = {"baseline": 43.52, "token_shift": 43.0, "zeroshot": 31.2}
    expected = {
        "variant": ["baseline", "", "", "token_shift", "zeroshot", "", ""],
        "": ["ours", "paper", "difference", "ours", "ours", "paper", "difference"],
        "t2v R@1": ["43.5", "43.0", "+0.5", "43.0", "31.2", "31.2", "+0.0"],
        "ms": ["20.0", "24.4", "-4.4", "19.0", "18.0", "", ""],
        "training, GB": ["-", "20.8", "", "-", "-", "", ""],
        "saved, MB": ["400.0", "", "", "350.0", "300.0", "", ""],
    }
    text = comparison(table(*(result("msrvtt", *one) for one in made.items()))).text
    assert text[[*expected]].to_dict("list") == expected


def test_a_table_is_of_one_benchmark_and_of_one_result_a_seed():
    of_two = [row(result(benchmark, "baseline", 40)) for benchmark in ("msvd", "msrvtt")]
    with pytest.raises(UserError, match="a table has the results of one benchmark, and these are of msvd, msrvtt"):
        combine(of_two, None, PAPER_ROWS)
    with pytest.raises(UserError, match="baseline, seed 42: two results; give one"):
        combine([row(result("msvd", "baseline", 40)) | {"seed": 42, "ranks": None}] * 2, None, PAPER_ROWS)


def test_costs_of_other_variants_are_not_told():
    made, _ = combine([row(result("msvd", "baseline", 40))], costs("kmedoids"), PAPER_ROWS)
    assert "Costs were measured" not in notes(made, costs("kmedoids"))


def test_the_best_of_a_column_is_bold_as_shown_and_none_where_all_are_equal():
    results = [result("shapes", name, r1) for name, r1 in (("zeroshot", 1), ("baseline", 40.04), ("kmedoids", 40))]
    made = comparison(table(*results))
    assert list(made.text)[:3] == ["variant", "saved, MB", "ms"] and made.labels == 1  # without published numbers
    assert made.text["epoch"].tolist() == ["-", "1", "1"]
    assert made.bold["t2v R@1"].tolist() == [False, True, True]
    assert made.bold["saved, MB"].tolist() == made.bold["ms"].tolist() == [False, False, True]
    assert not made.bold[["variant", "t2v MdR", "epoch", "training, s", "t2v R@1, last epoch"]].any(axis=None)


@pytest.mark.parametrize(("select", "expected"), [("best", []), ("last", ["42.0"]), ("val", ["42.0"])])
def test_the_best_epoch_is_shown_where_it_is_not_the_one_selected(select, expected):
    made = result("shapes", "baseline", 43)
    made["training"] |= {"select": select, "selected_epoch": 2}
    text = comparison(table(made)).text
    assert text["t2v R@1, last epoch"].tolist() == ["41.0"] and list(text.get("t2v R@1, best epoch", [])) == expected


def test_numbers_have_the_digits_of_their_column():
    assert shown(-0.04, "ms", "+") == "+0.0" and shown(0.1406, "gflops") == "0.141" and shown(4.5, "epoch") == "4.5"


def test_sentences_say_what_was_measured():
    sentences = notes(table(result("msrvtt", "baseline", 43)), costs())
    for part in ("1000 captions and 5000 videos", "7 captions were cut", "0 videos were left out", "2 threads",
                 "best t2v R@1 on the test split", "authors' may be GiB", "code changes nothing here"):  # fmt: skip
        assert part in sentences
    assert not any(part in sentences for part in ("(busy)", "shorter than a seg", "fewer turns"))
    short = result("lsmdc", "kmedoids-s4", 20) | {"n_videos_short": 3}
    short["training"]["select"] = "last"
    sentences = notes(table(short, result("lsmdc", "baseline", 20)), costs())
    assert "Test videos shorter than a segment: kmedoids-s4 3." in sentences
    assert "Weights are those of the last epoch." in sentences


def test_the_difference_is_of_scores_that_count_ties_as_published():
    made = result("msvd", "baseline-b16", 50)
    made["published"]["video_to_text"]["R@1"] = 51.5  # where ours is 49.0 and the paper's 62.7
    assert comparison(table(made)).text["v2t R@1"].tolist() == ["49.0", "62.7", "-11.2"]
    assert "changes most the v2t R@1 of baseline-b16, by +2.5" in notes(table(made), costs())


@pytest.mark.parametrize(
    ("change", "mark", "note"),
    [
        ({"busy": True}, "(busy)", "Times marked (busy) are wrong"),
        ({"turns": 1}, "(1 of 5 turns)", "the time budget was used up"),
    ],
)
def test_times_of_a_busy_machine_or_of_few_turns_are_marked(change, mark, note):
    results = result("shapes", "baseline", 50), result("shapes", "kmedoids", 50)
    rows = table(*results, measured=costs("baseline", "kmedoids", **change))
    assert comparison(rows).text["ms"].tolist() == [f"20.0 {mark}", f"19.0 {mark}"] and note in notes(rows, costs())
    assert comparison(rows).bold["ms"].any() == ("busy" not in change)


def test_random_weights_and_fewer_videos_stand_beside_every_number():
    """In the tables, the findings, the claims and the plots; a published recall is not met by such a model."""
    results = [result("msrvtt", name, 43) | {"n_videos": 40} for name in ("zeroshot", "baseline", "kmedoids-s4")]
    for made in results:
        made["settings"]["model"]["weights"] = None
    few = "random weights, on 40 of 1,000 videos"
    marked = [f"zeroshot ({few})", f"baseline (from {few})"]
    assert comparison(table(*results)).text["variant"].iloc[[0, 3]].tolist() == marked
    made, remarks = csv_of(*results), f"from {few}"
    _, found, unknown = findings(joined([made]), None, PAPER_ROWS)
    assert found.endswith(f"the best clustering variant's (kmedoids-s4, {remarks}; one run; no interval).")
    assert "as it tested 0 of its 31 models" in unknown
    recalls, *_, met, _ = judgements(made, PAPER_ROWS, 1.0).values()
    assert recalls.iloc[0, 3:].tolist() == [f"43.0 -> 43.0, kmedoids-s4 ({remarks})", "holds (one run, no interval)"]
    assert set(met["verdict"]) == {"not run"}
    figure = recall.draw(made.reindex(columns=made.columns.union(style.OPTIONAL)))
    few = "on 40 of 1,000 videos"
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()][:2] == [
        f"zeroshot ({few})",
        f"baseline ({few})",
    ]
    assert "All models start from random weights." in figure.get_supxlabel()
    plt.close("all")
    *_, met, _ = judgements(csv_of(result("msrvtt", "baseline", 43) | {"n_videos": 990}), PAPER_ROWS, 1.0).values()
    assert "43.0 (+0.0), on 990 of 1,000 videos" in met["here"].tolist()


def test_recall_on_a_part_of_the_test_videos_has_a_mark_and_no_difference_to_the_paper():
    part = result("msrvtt", "baseline", 43) | {"n_videos": 709}
    combined, apart = combine([row(part), row(result("msrvtt", "kmedoids-s4", 43))], None, PAPER_ROWS)
    text = document(combined, apart, None)[0].text
    assert text["variant"].tolist() == ["baseline (on 709 of 1,000 videos)", "", "", "kmedoids-s4", "", ""]
    assert text["t2v R@1"].tolist() == ["43.0", "43.0", "", "43.0", "43.6", "-0.6"]
    assert "Recall on less than 98% of the published test videos has no difference." in notes(combined, None)
    mine = result("shapes", "baseline", 43) | {"n_videos": 709, "n_videos_left_out": 291}
    assert comparison(table(mine)).text["variant"].tolist() == ["baseline (on 709 of 1,000 videos)"]


def test_without_costs_there_are_no_columns_of_them():
    rows = [row(result("msrvtt", name, 43)) for name in ("baseline", "kmedoids-s4")]
    made, apart = combine(rows, None, PAPER_ROWS)
    assert not {*MEASURED} & {*for_programs(made)}
    parts = document(made, apart, None)
    assert not {"saved, MB", "GFLOPs", "videos / s"} & {*parts[0].text}
    assert "Costs were measured" not in parts[1]
    claims = judgements(for_programs(made), PAPER_ROWS, 1.0)
    assert [table["verdict"].ne("not run").sum() for table in claims.values()] == [1, 0, 0, 0, 2, 0]


@pytest.mark.slow
def test_the_commands_write_every_format(tmp_path):
    """A table and the summary of it, in place of those that a failed run left."""

    def command(*words):
        words = [sys.executable, "-W", "error::FutureWarning", "-m", "centerclip", *words, "--paper", PAPER_CSV]
        done = subprocess.run(list(map(str, words)), cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr

    cells = write_results(tmp_path, "msrvtt", "baseline", "token_shift")
    for name in ("t", "s"):
        (tmp_path / f"{name}.partial.md").touch()
    files = ["--costs", cells[0].path(layout.COSTS), "--cells", *(cell.path(layout.RESULT) for cell in cells)]
    command("table", *files, "--out", tmp_path / "t")
    command("summary", "--tables", tmp_path / "t.csv", "--tolerance", 1, "--out", tmp_path / "s")
    written = {path.name for path in tmp_path.glob("?.*")}
    assert written == {"t.csv", "t.html", "t.md", "t.tex", "s.html", "s.md"}
    assert pd.read_csv(tmp_path / "t.csv")["variant"].tolist() == ["baseline", "token_shift"]
    assert "CenterCLIP (spectral), 4 segments of 49, ViT-B-32" in (tmp_path / "t.md").read_text()
    summary = unaligned((tmp_path / "s.md").read_text())
    assert "| msrvtt | baseline | 43.0 | 43.0 (+0.0) | holds (one run) |" in summary


def test_what_cannot_be_read_is_one_line(tmp_path, mistake):
    (cell,) = write_results(tmp_path, "msrvtt", "baseline")
    (tmp_path / "no.json").write_text("{")
    costs_file, unmade, common = cell.path(layout.COSTS), cell.path(layout.CELL), ["--paper", PAPER_CSV, "--out", "t"]
    old = costs("baseline")
    del old["rows"][0]["step_ms"]
    write_json(tmp_path / "msrvtt/old/costs.json", old)
    remedy = "make it again by your snakemake command with results/old/costs.json as its only target"
    for measured, of_cell, expected in (
        (costs_file, "no_such.json", "no_such.json: No such file or directory"),
        (costs_file, tmp_path / "no.json", f"{tmp_path}/no.json: not a cell or its results, such as"),
        (costs_file, unmade, f"{unmade}: this is a cell and not its results"),
        (tmp_path / "no.json", cell.path(layout.RESULT), f"{tmp_path}/no.json: not json: "),
        (
            tmp_path / "msrvtt/old/costs.json",
            cell.path(layout.RESULT),
            f"{tmp_path}/msrvtt/old/costs.json: measured by another version of centerclip; {remedy}",
        ),
    ):
        line = mistake(cli.main, "table", *common, "--costs", measured, "--cells", of_cell)
        assert line.startswith(f"error: {expected}")
    line = mistake(cli.main, "summary", *common, "--tolerance", "1", "--tables", "no_such.csv")
    assert line == "error: no_such.csv: No such file or directory"
