"""The benchmark of stored frames: both sides show the same pictures, and the projection is the measured rate's. That of
search measures what search does.

The page of fidelity: every choice is on it, and can be made. Ways to reduce tokens are set to equal cost, and seeds
are compared with their own baseline.
"""

import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import REPOSITORY
from support.videos import make_video

from centerclip.backbones.clip import build
from centerclip.bench import fidelity, pictures, recall
from centerclip.bench import frames as frames_benchmark
from centerclip.bench import reduction as bench
from centerclip.bench import search as search_benchmark
from centerclip.bench import spectral as spectral_benchmark
from centerclip.bench.frames import Peer
from centerclip.command import UserError
from centerclip.evaluate import costs
from centerclip.method.stage import Model
from centerclip.settings.config import read_config
from centerclip.settings.resolve import cell_names


@pytest.fixture(params=["decord", "torchcodec"])
def peer(request):
    """A library that decodes single frames, if it is here."""
    if request.param not in (found := frames_benchmark.peers()):
        pytest.skip(f"{request.param} cannot be imported, or finds no FFmpeg")
    return found[request.param]


def test_both_ways_give_the_same_video(tmp_path, peer):
    """Two seconds at 12 frames a second, of rising grey: six frames at 3 a second, four of the 24 apart."""
    video = make_video(tmp_path / "v.mp4", count=24, rate=12, size=(300, 240))
    frames_benchmark.reencode(video, tmp_path / "usual.mp4")
    usual = frames_benchmark.sample_of_mp4(tmp_path / "usual.mp4", peer, np.random.default_rng(0))
    assert usual.shape == (12, 3, 224, 224)
    shown = np.unique(usual[:, :, -5:].mean((1, 2, 3)).round())
    assert len(shown) == 6 and np.all(np.diff(shown) == pytest.approx(40, abs=4))


def test_a_row_for_every_video_that_decodes(tmp_path):
    if not frames_benchmark.peers():
        pytest.skip("neither decord nor torchcodec is here")
    (tmp_path / "out").mkdir()
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    good = make_video(tmp_path / "good.mp4", count=24, rate=12, size=(96, 64))
    (row,) = frames_benchmark.measure([tmp_path / "broken.mp4", good], tmp_path / "out", 2).to_dict("records")
    assert row["video"] == "good.mp4" and row["seconds"] == 2
    assert min(row[name] for name in row if name.endswith(("ms", "bytes"))) > 0
    with pytest.raises(UserError, match="none of the videos decodes"):
        frames_benchmark.measure([tmp_path / "broken.mp4"], tmp_path / "out", 2)


def test_a_peer_is_asked_for_the_same_frames(tmp_path, peer):
    """It gives those of a file that it reads rightly, the rising grey of the stored ones."""
    video = make_video(tmp_path / "v.mp4", count=24, rate=12, size=(96, 64))
    found = frames_benchmark.by_peer(peer, video, np.array([2, 6, 10, 14, 18, 22]), np.asarray)
    assert [frame[-5:].mean() for frame in found] == pytest.approx([20, 60, 100, 140, 180, 220], abs=4)
    taken = frames_benchmark.decoding(video, {"it": peer}, 1)
    assert 0 <= taken["it_error"] < 2 and min(taken[f"it_{what}_ms"] for what in ("store", "search")) > 0


def test_a_file_that_a_peer_cannot_open_has_none_of_its_times(tmp_path):
    def opens(path):
        raise RuntimeError("not this one")

    taken = frames_benchmark.decoding(make_video(tmp_path / "v.mp4"), {"it": Peer(opens, RuntimeError)}, 1)
    assert all(np.isnan(taken[f"it_{what}"]) for what in ("store_ms", "search_ms", "error"))
    assert taken["store_ms"] > 0 and taken["search_ms"] > 0


def test_totals_are_of_the_videos_that_both_read():
    measured = {"prepare_ms": [10, 90, 7], "it_store_ms": [20, 80, np.nan], "it_error": [0.5, 0.2, np.nan]}
    measured |= {"search_ms": [5, 5, 9], "it_search_ms": [10, 30, np.nan]}
    assert frames_benchmark.beside_peers(pd.DataFrame(measured)) == {
        "videos_that_it_opens": 2,
        "store_time_over_its": 1.0,
        "search_time_over_its": 0.25,
        "its_largest_error": 0.5,
    }


def test_kinds_of_pictures_are_compared_on_the_same_frames(tmp_path):
    """A video of 12 frames and one too short for a sample; what loses less is nearer, and full colour is larger."""
    make_video(tmp_path / "v.mp4", count=24, rate=12, size=(96, 64))
    make_video(tmp_path / "short.mp4", count=6, rate=12, size=(96, 64))
    videos = pictures.samples(tmp_path, 56)
    assert list(videos) == ["v.mp4"] and videos["v.mp4"].shape == (12, 56, 56, 3)
    rows = pictures.measure(videos, 1, "tiny").set_index(["reader", "quality", "subsampling"])
    assert len(rows) == len(pictures.KINDS) and rows["cosine"].between(0.99, 1 + 1e-6).all()
    by_simplejpeg = rows.loc["simplejpeg"]
    assert by_simplejpeg.loc[(95, "444"), "error"] <= by_simplejpeg.loc[(85, "420"), "error"]
    assert by_simplejpeg.loc[(95, "444"), "bytes"] > by_simplejpeg.loc[(90, "420"), "bytes"]
    for reader in ("pillow", "torchvision"):  # decoders may round otherwise, and no more
        assert rows.loc[(reader, 85, "420"), "error"] == pytest.approx(by_simplejpeg.loc[(85, "420"), "error"], abs=0.1)


def test_cores_that_keep_a_gpu_busy():
    assert pictures.cores(2.5) == (
        "400 samples a second and core; cores for so many samples a second: 1.2 for 500, 2.5 for 1,000, 5.0 for 2,000"
    )


def test_projection():
    """Two videos of 30 s together took 3 s and 6 MB: 0.1 s and 0.2 MB a second of video."""
    measured = pd.DataFrame({"seconds": [10, 20], "prepare_ms": [1000, 2000], "bytes": [2e6, 4e6]})
    row = frames_benchmark.projection(measured).set_index("benchmark").loc["MSR-VTT"]
    assert row["minutes, 8 cores"] == pytest.approx(10_000 * 15 * 0.1 / 60 / 8)
    assert row["GB"] == pytest.approx(10_000 * 15 * 0.2 / 1000)


def test_the_page_of_fidelity_has_every_choice_with_what_it_changes(tmp_path):
    """On the tiny backbone; the repository's page, of ViT-B-32, has the same lines."""
    command = [sys.executable, "-m", "centerclip.bench.fidelity", "--backbone", "tiny", "--videos", "2", "--out"]
    subprocess.run([*command, tmp_path / "page.md"], check=True, capture_output=True)
    made, ours = (path.read_text() for path in (tmp_path / "page.md", REPOSITORY / "docs/fidelity.md"))
    assert "Made by `python -m centerclip.bench.fidelity --backbone tiny --videos 2 --out " in made
    lines = [[line for line in page.splitlines() if line.startswith("| ")] for page in (made, ours)]
    made, ours = ([[cell.strip() for cell in line.split("|")[1:-1]] for line in page] for page in lines)
    assert [row[:5] for row in made] == [row[:5] for row in ours]
    effects = {row[0]: row[5] for row in made}
    assert all(effects[choice.what] for choice in fidelity.FOLLOWED + fidelity.DEVIATIONS if choice.effect)


@pytest.mark.parametrize("choice", fidelity.FOLLOWED + fidelity.DEVIATIONS, ids=lambda choice: choice.what)
def test_what_is_said_to_be_set_can_be_set(choice, tmp_path):
    """Each key in the column `how to switch` is one that the config takes."""
    for block in re.findall(r"`((?:training|evaluation): \{.*?\}|select: \w+)`", choice.switch):
        (tmp_path / "mine.yaml").write_text(block)
        assert read_config([tmp_path / "mine.yaml"]) != read_config([])


METHODS = bench.methods()


class TestEqualCost:
    @pytest.mark.parametrize("method", METHODS)
    def test_a_methods_operations_are_as_near_to_the_budget_as_its_schedule_allows(self, method):
        whole = bench.operations(Model("ViT-B-32"), 12)
        for budget in bench.BUDGETS:
            model = bench.fitted(METHODS[method], "ViT-B-32", 12, 4, budget)
            if method != "rlt":  # whose cost the video decides
                # a method of one stage has a block's choice, 5.6 % of the operations
                off = 0.03 if "stages" in METHODS[method] else 0.012
                assert bench.operations(model, 12) / whole == pytest.approx(budget, abs=off)

    @pytest.mark.parametrize("method", [None, "kmedoids", "tome", "tempme", "rlt"])
    def test_operations_are_those_that_are_counted(self, method):
        """But for patch embedding, projection and, at half a per cent, what the reductions take."""
        model = bench.fitted(METHODS[method], "ViT-S-32", 12, 4, 0.65) if method else Model("ViT-S-32")
        video = costs.smooth_videos(1, 12, 224)
        counted = 1e9 * costs.gflops(build(model, 0).eval(), video)
        around = 12 * 49 * 2 * 3 * 32 * 32 * 384 + 12 * 2 * 384 * 384
        if method == "rlt":
            assert (counted - around) / bench.operations(Model("ViT-S-32"), 12) == pytest.approx(0.65, abs=0.01)
        else:
            assert counted - around == pytest.approx(bench.operations(model, 12), rel=0.02)

    def test_the_command_without_data(self, tmp_path):
        """At one budget, of a model so small that reducing costs more than it saves."""
        methods = ["kmedoids", "tome", "rlt"]
        words = ["--backbone", "tiny", "--budgets", "0.6", "--repeats", "1", "--batch", "1", "--methods", *methods]
        command = [sys.executable, "-m", "centerclip.bench.reduction", *words, "--out", str(tmp_path / "cost-0.6")]
        printed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
        rows = pd.DataFrame(json.loads((tmp_path / "cost-0.6.json").read_text())["rows"])
        assert rows["method"].tolist() == ["baseline", *methods]
        assert (rows["gmacs"] * 2 == rows["gflops"]).all() and rows["saved_mb"].notna().all()
        assert rows["gflops_ratio"][1:].between(0.55, 0.75).all()
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
        assert mistake(bench.main, *words) == "error: mine: what is compared at equal cost has one stage, or a schedule"

    def test_what_does_not_fit_is_one_line(self):
        with pytest.raises(UserError, match="tempme: joins \\[2, 2, 3\\] do not go with 10 frames and 12 blocks"):
            bench.settings("ViT-B-32", 10, 5, [0.5], {"tempme": METHODS["tempme"]})


class TestRecall:
    def test_each_seed_is_compared_with_its_own_baseline(self):
        scores = pd.DataFrame(
            {
                "variant": ["baseline", "baseline", "tome", "tome"],
                "seed": [1, 2, 2, 1],
                recall.SCORE: [40.0, 44.0, 45.0, 43.0],
            }
        )
        ratios = {"variant": ["tome", "baseline"], "gflops_ratio": [0.7, 1.0], "saved_mb_ratio": [0.6, 1.0]}
        table = recall.compare(scores, pd.DataFrame(ratios)).set_index("variant")
        assert table.loc["tome", ["mean", "difference", "better", "gflops_ratio"]].tolist() == [44, 2, 2, 0.7]
        assert table.loc["tome", "difference std"] == pytest.approx(2**0.5)  # of +3 and +1
        assert table.loc["baseline", "std"] == pytest.approx(8**0.5) and table.loc["baseline", "difference std"] == 0
        assert "+2.0 ± 1.4" in recall.shown(table.reset_index())
        labels = [text.get_text() for text in recall.draw(table.reset_index()).legends[0].get_texts()]
        assert labels == ["baseline", "tome"]

    def test_its_config_has_five_seeds_of_every_method(self):
        config = read_config(recall.OVERLAYS)
        assert len(cell_names(config, "shapes")) == 5 * len(config["lists"]["bench"]) and len(config["seeds"]) == 5


def test_search_is_measured_on_what_it_does(tmp_path, monkeypatch, capsys):
    """Three videos, one broken, at a time and together; an index of 50 that is asked; 300 texts and videos ranked."""
    (tmp_path / "videos").mkdir()
    for name in ("a.mp4", "b.mp4"):
        make_video(tmp_path / "videos" / name)
    (tmp_path / "videos/broken.mp4").write_text("not a video")
    words = f"search --backbone tiny --videos {tmp_path}/videos --index 50 --ranks 300 --repeats 1 --threads 1"
    monkeypatch.setattr(sys, "argv", [*words.split(), "--out", str(tmp_path / "out.json")])
    search_benchmark.main()
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


@pytest.mark.parametrize("sigma", [None, 8.0])
def test_spectrals_two_ways_are_measured_on_an_encoders_tokens(monkeypatch, sigma):
    monkeypatch.setattr(spectral_benchmark, "BLOCK", 2)
    row = spectral_benchmark.measure(("tiny", 6, 2, 16, 2), sigma, 1, torch.device("cpu"))
    assert (row["tokens"], row["problems"], row["sigma"]) == ("147 -> 16", 4, str(sigma)) and 0 < row["gap"] < 1
    assert row["solver, medoids"] == row["products, medoids"] == 1
    assert min(row["solver, ms"], row["products, ms"]) > 0


def test_nothing_to_measure_is_a_mistake(mistake):
    assert mistake(search_benchmark.main) == "error: nothing to measure: name --videos, --index or --ranks"
