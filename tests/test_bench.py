"""Benchmarks: the figures of docs/fidelity.md, methods at equal cost, seeds beside their own baseline, and search."""

import json
import re
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY
from support.families import clip
from support.ranks import answered
from support.videos import make_video

from centerclip.backbones.clip import build
from centerclip.backbones.weights import save_weights
from centerclip.bench import families, fidelity, recall, search
from centerclip.bench import reduction as bench
from centerclip.command import UserError
from centerclip.evaluate import costs, operations
from centerclip.method.stage import Model as Network
from centerclip.report.compare import Model
from centerclip.settings.config import read_config
from centerclip.settings.resolve import cell, cell_names


def fidelity_rows() -> dict[str, list[str]]:
    """The cells of each choice's row in docs/fidelity.md."""
    lines = (REPOSITORY / "docs/fidelity.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    return {row[0]: row for row in cells if row[0] != "choice"}


def test_fidelity_page_has_the_figures_that_depend_on_no_network():
    rows = fidelity_rows()
    assert [(choice, figure) for choice, figure in fidelity.of_rules() if figure not in rows[choice][5]] == []


def test_fidelity_page_has_a_row_for_each_measured_choice(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fidelity", "--backbone", "tiny", "--videos", "2"])
    fidelity.main()
    rows, printed = fidelity_rows(), [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert len(printed) > 20 and {choice.removeprefix("| ") for choice, _ in printed} <= set(rows)
    assert all(re.search(r"\d", figure) for _, figure in printed)


@pytest.mark.parametrize("row", fidelity_rows().values(), ids=fidelity_rows())
def test_what_fidelity_says_can_be_switched_can_be(row, tmp_path):
    """Each key in the column `how to switch` is one that the config takes."""
    for block in re.findall(r"`((?:training|evaluation): \{.*?\}|select: \w+)`", row[4]):
        (tmp_path / "mine.yaml").write_text(block)
        assert read_config([tmp_path / "mine.yaml"]) != read_config([])


METHODS = bench.methods()


class TestEqualCost:
    @pytest.mark.parametrize("method", METHODS)
    def test_a_methods_operations_are_as_near_to_the_budget_as_its_schedule_allows(self, method):
        whole = operations.of_blocks(*bench.whole("ViT-B-32", 12))
        for budget in bench.BUDGETS:
            encoder = bench.fitted(METHODS[method], "ViT-B-32", 12, 4, budget)
            if method != "rlt":  # whose cost the video decides
                # a method of one stage has a block's choice, 5.6 % of the operations; a control a frame's or a patch's
                off = 0.03 if "stages" in METHODS[method] else {"frames": 0.042, "pixels": 0.09}.get(method, 0.012)
                assert operations.of_blocks(*encoder) / whole == pytest.approx(budget, abs=off)

    def test_run_lengths_leave_the_operations_asked_for(self):
        whole = bench.whole("ViT-S-32", 12)
        model, frames, pixels = bench.fitted(METHODS["rlt"], "ViT-S-32", 12, 4, 0.65)
        counted = 1e9 * costs.gflops(build(model, 0).eval(), costs.smooth_videos(1, frames, pixels))
        around = operations.of_video(*whole) - operations.of_blocks(*whole)
        assert (counted - around) / operations.of_blocks(*whole) == pytest.approx(0.65, abs=0.01)

    def test_the_command_without_data(self, tmp_path, monkeypatch, capfd):
        """At one budget, of a model so small that reducing costs more than it saves."""
        methods = ["kmedoids", "tome", "rlt", "frames", "pixels"]
        words = ["--backbone", "tiny", "--budgets", "0.6", "--repeats", "1", "--batch", "1", "--methods", *methods]
        monkeypatch.setattr(sys, "argv", ["reduction", *words, "--out", str(tmp_path / "cost-0.6")])
        bench.main()
        printed = capfd.readouterr().out
        rows = pd.DataFrame(json.loads((tmp_path / "cost-0.6.json").read_text())["rows"])
        assert rows["method"].tolist() == ["baseline", *methods]
        assert (rows["gmacs"] * 2 == rows["gflops"]).all() and rows["saved_mb"].notna().all()
        assert rows["gflops_ratio"][1:].between(0.48, 0.75).all()
        assert rows["setting"][4:].tolist() == ["7 frames of 56 px", "12 frames of 40 px"]
        assert bench.draw(rows, "tiny").axes[0].get_xlim()[1] < 1.1  # though some take twice the baseline's time
        assert printed in (tmp_path / "cost-0.6.md").read_text() and (tmp_path / "cost-0.6.png").stat().st_size > 5000

    def test_methods_of_ones_own_are_compared_too(self, tmp_path, monkeypatch, capfd, mistake):
        overlay = tmp_path / "mine.yaml"
        overlay.write_text("variants: {mine: {stages: [{algorithm: dpc_knn}]}}\nlists: {bench: [baseline, mine, tome]}")
        words = ["--backbone", "tiny", "--budgets", "0.6", "--repeats", "1", "--batch", "1", "--config", str(overlay)]
        monkeypatch.setattr(sys, "argv", ["reduction", *words])
        bench.main()
        assert [line.split()[1] for line in capfd.readouterr().out.splitlines()[2:]] == ["baseline", "mine", "tome"]
        said = mistake(bench.main, *words, "--methods", "kmedoids")
        assert said == "error: --methods kmedoids: not in the config's list `bench`, of mine, tome"
        overlay.write_text("variants: {mine: {shift: token_shift}}\nlists: {bench: [baseline, mine]}")
        assert (
            mistake(bench.main, *words)
            == "error: mine: a method at equal cost has one stage, a schedule, or fewer frames or pixels"
        )

    def test_what_does_not_fit_is_one_line(self):
        with pytest.raises(UserError, match="tempme: joins \\[2, 2, 3\\] do not go with 10 frames and 12 blocks"):
            bench.settings("ViT-B-32", 10, 5, [0.5], {"tempme": METHODS["tempme"]})


def test_families_are_measured_beside_their_baselines(tmp_path, monkeypatch, capsys):
    """Small models; one has so many tokens of so few numbers that clustering saves nothing."""
    cases = [families.Case("SigLIP", 4, 1), families.Case("PE-Core", 12), families.Case("PE-Core", 1)]
    monkeypatch.setattr(families, "CASES", cases)
    monkeypatch.setattr(families.open_clip, "create_model", clip)
    monkeypatch.setattr(sys, "argv", f"families --turns 1 --out {tmp_path}/families".split())
    families.main()
    said, table = capsys.readouterr(), pd.read_csv(tmp_path / "families.csv").set_index(["model", "segments"])
    assert table.index.tolist() == [("SigLIP", 4), ("PE-Core", 12), ("PE-Core", 1)]
    assert table["clusters"].tolist() == [1, 16, 16] and (table["k-medoids s"] > 0).all()
    assert table["GFLOPs ratio"].rank().tolist() == [1, 3, 2] and table["GFLOPs ratio"].between(0.4, 1.1).all()
    assert table["estimated"].gt(table["GFLOPs ratio"]).all() and table["clustering"].between(0, 1).all()
    assert "PE-Core, 1 segments of 16: time is " in said.err
    page = (tmp_path / "families.md").read_text()
    assert said.out in page and "1 thread(s), seed 0, 1 turns" in page and "families --turns 1" in page


class TestRecall:
    def test_each_seed_is_compared_with_its_own_baseline(self):
        """Of 100 queries seed 1 finds 30 and 50, seed 2 40 and 62: +20 and +22 points. The baseline has no seed 3."""

        def found(count: int) -> dict:
            return answered(np.repeat([1, 20], [count, 100 - count]))

        seeds = {"baseline": {1: found(30), 2: found(40)}, "tome": {2: found(62), 1: found(50), 3: found(99)}}
        models = [Model(name, Path(name), None, trainings) for name, trainings in seeds.items()]
        ratios = {"variant": ["tome", "baseline"], "gflops_ratio": [0.7, 1.0], "saved_mb_ratio": [0.6, 1.0]}
        ratios |= {"trainable_m": [0.025, 3.5], "index_bytes": [512, 128]}
        table = recall.table_of(models, pd.DataFrame(ratios)).set_index("variant")
        tome = table.loc["tome"]
        assert tome[["seeds", "difference", "gflops_ratio"]].tolist() == [3, 21, 0.7]
        assert tome["difference std"] == pytest.approx(2**0.5) and tome["low"] < 21 < tome["high"]
        assert tome["half"] == pytest.approx(np.hypot((tome["high"] - tome["low"]) / 2, 12.7062), rel=1e-4)
        assert (tome["verdict"], table.loc["baseline", "std"]) == ("better", pytest.approx(50**0.5))
        assert re.search(r"\+21.0 \[.* 0.025 +\|", recall.shown(table.reset_index()))
        figure = recall.draw(table.reset_index())
        assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["tome"]
        assert [axes.get_xlabel() for axes in figure.axes][1] == "bytes of a video in a float16 index"
        with pytest.raises(UserError, match="the variant baseline has no results"):
            recall.table_of(models[1:], pd.DataFrame(ratios))

    def test_its_config_has_five_seeds_of_every_method(self):
        config = read_config(recall.OVERLAYS)
        assert len(cell_names(config, "shapes")) == 5 * len(config["lists"]["bench"]) and len(config["seeds"]) == 5

    def test_low_rank_tuning_starts_from_the_weights_that_full_tuning_starts_from(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("results").mkdir()
        save_weights(build(Network("tiny"), 0).state_dict(), "tiny", Path("results/pretrained.safetensors"))
        config = read_config([*recall.OVERLAYS, REPOSITORY / "config/lora.yaml"])
        cells = {name: cell(config, "shapes", name) for name in cell_names(config, "shapes")}
        assert len(cells) == 18
        for variant, seed in product(("baseline", "kmedoids", "tome"), ("", "-seed-1", "-seed-2")):
            full, low = cells[variant + seed], cells[f"{variant}-lora{seed}"]
            assert low.training == replace(full.training, tune="lora", lr=1e-2) and low.model == full.model
            assert full.model.weights == "results/pretrained.safetensors"


@pytest.mark.slow
def test_search_is_measured_on_what_it_does(tmp_path, monkeypatch, capsys):
    """Three videos, one broken, at a time and together; an index of 50 that is asked; 300 texts and videos ranked."""
    (tmp_path / "videos").mkdir()
    for name in ("a.mp4", "b.mp4"):
        make_video(tmp_path / "videos" / name)
    (tmp_path / "videos/broken.mp4").write_text("not a video")
    words = f"search --backbone tiny --videos {tmp_path}/videos --index 50 --ranks 300 --repeats 1 --threads 1"
    monkeypatch.setattr(sys, "argv", [*words.split(), "--out", str(tmp_path / "out.json")])
    search.main()
    found = json.loads((tmp_path / "out.json").read_text())
    ways = ["one at a time", "in batches", "in batches, as search does"]
    assert [row["encoded"] for row in found["indexing"]] == ways and found["indexing"][0]["ratio"] == 1
    for row in found["indexing"]:
        assert row["videos"] == 2 and row["videos a second"] > 0 and row["1 - cosine"] < 1e-3
    (answers,), (ranks,) = found["answers"], found["ranks"]
    assert answers["videos"] == 50 and 0 < answers["median ms"] <= answers["slowest ms"]
    assert ranks["seconds"] > 0 and ranks["metrics"]["n_texts"] == 300
    assert sorted(path.name for path in (tmp_path / "videos").iterdir()) == ["a.mp4", "b.mp4", "broken.mp4"]
    printed = capsys.readouterr().out
    assert "videos a second" in printed and "median ms" in printed and "MB added" in printed


def test_nothing_to_measure_is_a_mistake(mistake):
    assert mistake(search.main) == "error: nothing to measure: name --videos, --index or --ranks"
