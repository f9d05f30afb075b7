"""The fastest setting of each method that keeps the baseline's recall, and rows of two devices, from costs by hand."""

import pandas as pd
import pytest
from support.results import PAPER_ROWS, costs, result, row, table

from centerclip.report import fastest
from centerclip.report.beside_paper import comparison, document
from centerclip.report.claims import judgements
from centerclip.report.documents import markdown
from centerclip.report.plots.recall_vs_cost import relative
from centerclip.report.tables import combine, for_programs, joined

RECALLS = {  # at 10, 9, 8, ... ms a video and 100, 99, 98, ... GFLOPs
    "baseline": 40.0,
    "kmedoids-s3": 40.0,
    "kmedoids-s4": 39.7,  # 99.25 %
    "kmedoids-s6": 39.5,  # 98.75 %
    "tempme": 39.98,  # 99.95 %
    "tome": 30.0,
}


def compared(**changes) -> pd.DataFrame:
    results = [result("msrvtt", name, r1) for name, r1 in {"zeroshot": 40.0, **RECALLS}.items()]
    return fastest.shares_of_baseline(table(*results, measured=costs(*RECALLS, **changes)))


@pytest.mark.parametrize(("share", "kmedoids"), [(0.99, ("kmedoids-s4", 0.8)), (0.999, ("kmedoids-s3", 0.9))])
def test_the_fastest_setting_of_each_method_keeps_enough_of_the_baselines_recall(share, kmedoids):
    lines = fastest.fastest(compared(), share)
    assert lines["method"].tolist() == ["tempme", "kmedoids", "tome"] and set(lines["of"].dropna()) == {"time"}
    assert lines["variant"].tolist()[:2] == ["tempme", kmedoids[0]] and pd.isna(lines["variant"].iloc[2])
    assert lines["cost"].tolist()[:2] == pytest.approx([0.6, kmedoids[1]])


def test_a_control_of_another_backbone_is_compared_with_the_baseline_that_it_names():
    recalls = {"baseline": 40.0, "baseline-b16": 50.0, "b32-352": 45.0}
    rows = table(*(result("msrvtt", name, r1) for name, r1 in recalls.items()))
    found = fastest.shares_of_baseline(rows).iloc[0]
    assert (found["variant"], found["kept"], found["cost"]) == ("b32-352", 0.9, pytest.approx(8 / 9))


@pytest.mark.parametrize("change", [{"busy": True}, {"batch_ms": None}])
def test_without_times_of_a_quiet_machine_operations_decide(change):
    lines = fastest.fastest(compared(**change), 0.99)
    assert lines["cost"].tolist()[:2] == pytest.approx([0.96, 0.98]) and set(lines["of"].dropna()) == {"operations"}


def test_the_document_has_a_line_a_method_and_says_what_ranks():
    rows = [row(result("msrvtt", name, r1)) for name, r1 in RECALLS.items()]
    made, apart = combine(rows, costs(*RECALLS), PAPER_ROWS)
    words, lines = fastest.document(made)
    assert "Settings are ranked by time" in words
    assert lines.text.iloc[0].tolist() == [
        *("99 %", "tempme", "ViT-B-32", "tempme", "a CPU", "40.0", "-", "99.9%", "0.60 of the time"),
    ]
    settings = lines.text.groupby("keeps")["fastest setting"].agg(list).to_dict()
    assert settings == {"99 %": ["tempme", "kmedoids-s4", "none"], "99.9 %": ["tempme", "kmedoids-s3", "none"]}
    assert words in markdown(document(made, apart, costs(*RECALLS), words, lines))
    assert fastest.document(combine(rows, None, PAPER_ROWS)[0]) == []


def of_two_devices() -> pd.DataFrame:
    """Kmedoids on 9 ms beside its baseline's 10, and on another device, that is a hundred times as fast, alone."""
    results = [result("msrvtt", name, 40.0) for name in ("baseline", "kmedoids-s4")]
    ours = table(*results)
    other = ours[1:].assign(variant="kmedoids-s3", measured_on="a GPU", **{name: 0.1 for name in ("ms", "batch_ms")})
    return pd.concat([ours, other], ignore_index=True)


def test_costs_of_two_devices_have_no_common_best_ratio_or_line():
    rows = of_two_devices()
    text, bold = comparison(rows).text, comparison(rows).bold
    ours = text[text["variant"] != ""].index
    assert text.loc[ours, "measured on"].tolist() == ["a CPU", "a CPU", "a GPU"]
    assert bold.loc[ours, "ms"].tolist() == [False, True, False]
    assert fastest.cost(rows) == "gflops" and fastest.cost(rows[:2]) == "batch_ms"
    assert fastest.fastest(fastest.shares_of_baseline(rows), 0.99)["variant"].tolist() == ["kmedoids-s4"]
    assert relative(rows)["batch_ms"].tolist()[:2] == pytest.approx([100, 90])
    assert relative(rows).iloc[2].isna().all()
    *_, in_time, _, _, _ = judgements(joined([for_programs(rows)]), PAPER_ROWS, 1.0).values()
    assert in_time["here"].iloc[0].startswith("20.0 -> 19.0 ms (-5%), kmedoids-s4")


def test_a_device_is_named_in_a_sentence_where_all_rows_are_of_one():
    rows = of_two_devices()
    measured = costs("baseline")
    one, two = (document(table, PAPER_ROWS[:0], measured)[1] for table in (rows[:2], rows))
    assert "Costs were measured on a CPU with" in one and "are not compared" not in one
    assert "Costs were measured on a CPU and a GPU with" in two
    assert "Costs of different devices are not compared: the best of each device is bold." in two
    assert "measured on" not in comparison(rows[:2]).text
