"""What a run found, in three sentences, and the order in which it is told which claims hold."""

import pandas as pd
import pytest
from support.results import PAPER_ROWS, csv_of, full_size_table, result

from centerclip.report import full_size
from centerclip.report.documents import Table
from centerclip.report.rows import DIFFERENCE
from centerclip.report.summary import findings, summary
from centerclip.report.tables import joined


def csv(benchmark: str, seeds: int = 1, **recalls: float) -> pd.DataFrame:
    """A benchmark's table: t2v R@1 by variant, `_` for `-`."""
    named = {name.replace("_", "-"): r1 for name, r1 in recalls.items()}
    return csv_of(*(result(benchmark, name, r1, seed) for name, r1 in named.items() for seed in range(seeds)))


ORDER = ("holds", "holds (one run, no interval)", "fails", "not run")
SHAPES = csv("shapes", zeroshot=1, baseline=38.5, kmedoids=39, spectral=41.9)


def test_three_sentences_tell_what_was_run_what_it_found_and_what_it_cannot_tell():
    run, found, unknown = findings(joined([SHAPES]), full_size_table(), PAPER_ROWS)
    assert run == (
        "This run tested 4 models on shapes (ViT-B-32); it measured what the paper's models cost, ViT-B-32 on 12 frames"
        " with random weights, on this machine (a CPU, 2 threads)."
    )
    assert found == (
        f"It found: {'; '.join(full_size.savings(full_size_table()))}; on shapes (ViT-B-32) text-to-video R@1 goes from"
        " 38.5, the baseline's, to 41.9, the best clustering variant's (spectral; one run; no interval)."
    )
    assert unknown == (
        "It cannot tell whether the paper's recalls are met, as it tested 0 of its 31 models; whether a difference in"
        " recall is noise of training, as each model was trained once; what a GPU takes, as it had none."
    )


@pytest.mark.parametrize(
    ("value", "seeds", "told"),
    [
        (4.1, 1, "a gain, not corrected for the choice of the best of 2"),
        (-4.1, 1, "a loss, not corrected for the choice of the best of 2"),
        (4.0, 1, "which 1,000 queries cannot tell from 0"),
        (4.0, 3, "which 1,000 queries and 3 seeds cannot tell from 0"),
    ],
)
def test_findings_say_of_a_difference_what_its_interval_supports(value, seeds, told):
    """One pair of trainings is one run, however many seeds each of the two models has."""
    numbers = {DIFFERENCE: value, f"{DIFFERENCE} half": 4.0, f"{DIFFERENCE} seeds": seeds}
    _, found, _ = findings(joined([SHAPES]).assign(seeds=3, **numbers), None, PAPER_ROWS)
    run = "; one run" if seeds < 2 else ""
    assert found.endswith(f"variant's (spectral{run}), by {value:+.1f} ± 4.0 points (95 %), {told}.")


def test_findings_without_clustering_or_training():
    run, found, unknown = findings(joined([csv("shapes", zeroshot=1)]), None, PAPER_ROWS)
    assert run == "This run tested 1 model on shapes (ViT-B-32)."
    nothing = "It found: nothing on clustering, as no clustering variant here has a baseline."
    assert found == findings(joined([csv("shapes", kmedoids=39)]), None, PAPER_ROWS)[1] == nothing
    assert "trained once" not in unknown


def test_findings_of_several_seeds_on_a_gpu():
    seeds = joined([csv("msrvtt", seeds=2, baseline=43, kmedoids_s4=44)]).assign(training_gb=20.0)
    _, found, unknown = findings(seeds, None, PAPER_ROWS)
    assert "on msrvtt (ViT-B-32) text-to-video R@1 goes from 43.0, the baseline's, to 44.0," in found
    assert unknown == "It cannot tell whether the paper's recalls are met, as it tested 2 of its 31 models."


def test_findings_without_costs():
    _, _, unknown = findings(joined([SHAPES]).assign(ms=None), None, PAPER_ROWS)
    assert unknown.endswith("; what the models cost, as it measured no costs.")


def test_what_was_run_stands_before_what_was_not():
    parts = summary([SHAPES], full_size_table(), PAPER_ROWS, 1.0)
    assert parts[:3] == findings(joined([SHAPES]), full_size_table(), PAPER_ROWS)
    border = parts.index("Not run here, in the paper:")
    sides = parts[:border], parts[border:]
    here, missing = ([part.text for part in side if isinstance(part, Table)] for side in sides)
    assert all("verdict" not in shown for shown in missing)
    verdicts = pd.concat(here)["verdict"].value_counts()
    assert "not run" not in verdicts
    verdicts["not run"] = sum(map(len, missing))
    count = ", ".join(f"{name} {verdicts[name]}" for name in ORDER if name in verdicts)
    assert f": {count}. " in parts[3] and "Of msrvtt only costs were measured." in parts[3]
    assert [part.split(".")[0] for part in parts[4:border:2]] == [f"Claim {n}" for n in (1, 2, 3, 4, 6)]


def test_the_papers_costs_are_judged_by_those_at_full_size_unless_its_benchmark_was_run():
    def savings(tables):
        parts = summary(tables, full_size_table(), PAPER_ROWS, 1.0)
        place = next(number for number, part in enumerate(parts) if str(part).startswith("Claim 6"))
        return [" ".join(line) for line in parts[place + 1].text[["model", "of", "here", "verdict"]].to_numpy()]

    assert savings([SHAPES]) == [
        "kmedoids-s4 memory -14% fails",
        "kmedoids-s4 time -5% fails",
        "spectral-s4 memory -29% holds",
        "spectral-s4 time -11% holds",
    ]
    own = csv("msrvtt", baseline=43, kmedoids_s4=44)  # 400 -> 350 MB, 20 -> 19 ms
    assert savings([own]) == ["kmedoids-s4 memory -12% fails", "kmedoids-s4 time -5% fails"]
    assert "only costs" not in summary([own], full_size_table(), PAPER_ROWS, 1.0)[3]
