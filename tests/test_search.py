"""Searching one's own videos: what is found, what is computed again and what not, and what goes wrong."""

import errno
import json
import os
import socket
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from support.cells import STAGE, tiny_cell
from support.videos import make_video

from centerclip import cli
from centerclip.backbones import device
from centerclip.backbones.clip import build
from centerclip.backbones.weights import save_weights
from centerclip.command import UserError
from centerclip.data.datasets.files import listing
from centerclip.data.video import reading, watch
from centerclip.data.video.batches import Videos
from centerclip.data.video.decoding import idle
from centerclip.data.video.extraction import spread_or_reason
from centerclip.data.video.frames import FrameStore
from centerclip.data.video.shards import write_shard
from centerclip.evaluate.features import count_cut
from centerclip.method.stage import Model
from centerclip.search import index as search
from centerclip.search.index import Entry, Searcher, index_file, read_index, up_to_date, update
from centerclip.search.models import cell_of_weights, in_fast_precision
from centerclip.search.retriever import Retriever
from centerclip.settings import layout, revisions
from centerclip.settings.cell import Cell, read_cell


@pytest.fixture(scope="module")
def retriever():
    """The tiny model with random weights, 4 frames a video."""
    return Retriever(cell_of_weights("tiny", None, 4))


@pytest.fixture
def folder(tmp_path):
    """Three videos, one of them in a folder, one file that is broken and things that are no videos."""
    (tmp_path / "videos/more").mkdir(parents=True)
    for number, name in enumerate(("a.mp4", "b.MKV", "more/c.avi")):
        make_video(tmp_path / "videos" / name, count=8 + 6 * number, codec="mpeg4" if number == 2 else "libx264")
    (tmp_path / "videos/broken.mp4").write_text("not a video")
    (tmp_path / "videos/notes.txt").write_text("not a video")
    (tmp_path / "videos/._a.mp4").write_text("what some systems leave behind")
    return tmp_path / "videos"


@pytest.fixture
def decoded(monkeypatch):
    """The paths of the files decoded, as they are."""
    names = []

    def here(work, items, *_):
        for name in items:
            names.append(name)
            yield name, work(name, idle)

    monkeypatch.setattr(search, "watched", here)
    return names


def hanging(name, *arguments, **settings):
    """A decoder that hangs on a.mp4."""
    if name == "a.mp4":
        time.sleep(600)
    return spread_or_reason(name, *arguments, **settings)


class TestFolder:
    """Which files of a folder are looked at."""

    def test_links_of_a_folder_are_followed_once_and_loops_survived(self, folder, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        make_video(tmp_path / "elsewhere/d.mp4")
        (folder / "0 link").symlink_to(tmp_path / "elsewhere")
        (folder / "1 the same").symlink_to(tmp_path / "elsewhere")
        (folder / "2 more").symlink_to(folder / "more")
        (folder / "more/loop").symlink_to(folder)
        (folder / "to nothing.mp4").symlink_to(folder / "nothing")
        files, closed, _ = listing(folder)
        assert list(files) == ["0 link/d.mp4", "a.mp4", "b.MKV", "broken.mp4", "more/c.avi", "to nothing.mp4"]
        assert closed == {} and files["to nothing.mp4"] == (-1, -1)

    def test_a_closed_folder_is_named(self, folder, monkeypatch, retriever):
        def scandir(path, scan=os.scandir):
            if Path(path).name == "more":
                raise PermissionError(13, "Permission denied")
            return scan(path)

        monkeypatch.setattr(os, "scandir", scandir)
        assert list(listing(folder).videos) == ["a.mp4", "b.MKV", "broken.mp4"]
        assert update({}, folder, retriever)["more"] == "Permission denied"

    def test_other_files_are_counted_and_system_folders_not_entered(self, folder, retriever, capsys):
        for name in ("@eaDir", "#recycle", "lost+found", "$RECYCLE.BIN", "System Volume Information", ".Trash-0"):
            (folder / "more" / name).mkdir()
            (folder / "more" / name / "c.mp4").touch()
            (folder / "more" / name / "c.jpg").touch()
        for name in ("b.srt", "more/a.SRT", "more/LICENSE"):
            (folder / name).touch()
        found = listing(folder)
        assert list(found.videos) == ["a.mp4", "b.MKV", "broken.mp4", "more/c.avi"]
        line = "4 files with other suffixes passed over: .srt 2, without 1, .txt 1"
        assert found.passed_over() == line
        update({}, folder, retriever)
        assert f"note: {line}\n" in capsys.readouterr().err
        for path in found.videos:
            (folder / path).unlink()
        with pytest.raises(UserError, match=f"no videos in it .*; {line}"):
            listing(folder)

    def test_what_is_no_file_is_named_and_never_waited_for(self, tmp_path, retriever):
        make_video(tmp_path / "a.mp4")
        os.mkfifo(tmp_path / "pipe.mp4")
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(tmp_path / "s.mp4"))
            (tmp_path / "device.mp4").symlink_to("/dev/zero")
            assert update({}, tmp_path, retriever) == dict.fromkeys(["pipe.mp4", "s.mp4", "device.mp4"], "not a file")


class TestFrames:
    def test_frames_are_the_middles_of_equal_spans(self, tmp_path):
        # 2 s in 4 spans: shown at 0.25, 0.75, 1.25, 1.75 s, which are frames 2, 7, 12, 17 of ten a second
        frames, mask = Retriever(cell_of_weights("tiny", None, 4)).read(
            make_video(tmp_path / "v.mp4", count=20, rate=10)
        )
        assert frames.shape == (4, 3, 56, 56) and frames.dtype == torch.uint8 and mask.all()
        assert frames[:, :, -3:].float().mean((1, 2, 3)) == pytest.approx([20, 70, 120, 170], abs=3)

    def test_a_short_video_is_padded(self, tmp_path):
        frames, mask = Retriever(cell_of_weights("tiny", None, 5)).read(make_video(tmp_path / "v.mp4", count=3))
        assert mask.tolist() == [True, True, True, False, False]
        assert torch.equal(frames[2], frames[4]) and not torch.equal(frames[1], frames[2])

    def test_vectors_are_those_of_the_workflows_stored_frames(self, retriever, tmp_path):
        video = make_video(tmp_path / "v.mp4", count=20, rate=10)
        clips = pd.DataFrame([{"video_id": "v", "path": str(video), "start_s": 0.0, "end_s": float("nan")}])
        write_shard(clips, 2, 56, tmp_path / "0.lmdb")
        pd.read_csv(tmp_path / "0.csv").assign(shard="0.lmdb").to_csv(tmp_path / "report.csv", index=False)
        stored = retriever.encode_frames([Videos(["v"], FrameStore(tmp_path / "report.csv"), 4)[0]])[0]
        assert (retriever.encode_videos([video])[0] @ stored).item() > 0.9999


class TestIndex:
    def test_an_index_ranks_as_brute_force_does(self, retriever, folder):
        index = {}
        assert list(update(index, folder, retriever)) == ["broken.mp4"]
        sentence = retriever.encode_sentences(["something grey"])[0]
        names = ["a.mp4", "b.MKV", "more/c.avi"]
        vectors = retriever.encode_videos([folder / name for name in names])
        by_hand = sorted(
            ((sum(x * y for x, y in zip(vector, sentence.tolist(), strict=True)), name) for vector, name in
             zip(vectors.tolist(), names, strict=True)), reverse=True,
        )  # fmt: skip
        (found,) = Searcher(dict(sorted(index.items())), retriever).answers(["something grey"], 5)
        assert [one.video for one in found] == [name for _, name in by_hand]
        assert [one.similarity for one in found] == pytest.approx([similarity for similarity, _ in by_hand])
        assert [names[one.place] for one in found] == [one.video for one in found]

    def test_equal_videos_go_by_path_and_sentences_together_are_as_alone(self, retriever):
        generator = torch.Generator().manual_seed(0)
        vectors = [torch.randn(64, generator=generator).numpy() for _ in range(5)]
        index = {f"{number:02}": Entry(0, 0, vectors[number % 5]) for number in range(20)}
        searcher, sentences = Searcher(index, retriever), ["grey", "a dog jumps into a lake"]
        both = searcher.answers(sentences, 7)
        for sentence, answer in zip(sentences, both, strict=True):
            (alone,) = searcher.answers([sentence], 7)
            places = [one.place for one in alone]
            assert [one.place for one in answer] == places and len(places) == 7
            assert places[:4] == sorted(places[:4]) and len({place % 5 for place in places[:4]}) == 1

    def test_only_what_changed_or_failed_is_decoded_again(self, retriever, folder, decoded):
        index = {}
        assert "not a video" in update(index, folder, retriever)["broken.mp4"]
        assert sorted(decoded) == ["a.mp4", "b.MKV", "broken.mp4", "more/c.avi"]
        decoded.clear()
        before = index["b.MKV"].vector
        make_video(folder / "b.MKV", count=2)
        os.utime(folder / "a.mp4", (1, 1))
        make_video(folder / "new.mp4")
        (folder / "more/c.avi").unlink()
        update(index, folder, retriever)
        assert sorted(decoded) == ["a.mp4", "b.MKV", "broken.mp4", "new.mp4"]
        assert sorted(index) == ["a.mp4", "b.MKV", "new.mp4"]
        assert not np.array_equal(index["b.MKV"].vector, before)
        decoded.clear()
        make_video(folder / "v.mp4").rename(folder / "broken.mp4")
        assert update(index, folder, retriever) == {} and decoded == ["broken.mp4"]

    def test_a_damaged_index_counts_as_empty_and_is_never_an_error(self, tmp_path):
        file, rng = tmp_path / "index.npz", np.random.default_rng(0)
        sound = {"path": ["a", "b"], "size": [1, 2], "changed": [3, 4], "vector": np.ones((2, 3), np.float32)}
        assert read_index(file) == {}
        np.savez(file, **sound)
        assert read_index(file, 3).keys() == {"a", "b"} and read_index(file, 4) == {}
        whole = file.read_bytes()
        for change in (
            {"path": np.array(["a", b"b"], object)},  # a pickle
            {"path": ["a"]},
            {"vector": np.array([[1, 1, np.nan]] * 2, np.float32)},
        ):
            np.savez(file, **sound | change)
            assert read_index(file) == {}, change
        for _ in range(100):
            damaged = bytearray(whole)
            for place in rng.integers(0, len(whole), rng.integers(1, 9)):
                damaged[place] = rng.integers(256)
            file.write_bytes(damaged[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.3 else damaged)
            for name, entry in read_index(file, 3).items():
                assert isinstance(name, str) and entry.vector.shape == (3,) and np.isfinite(entry.vector).all()

    def test_an_index_that_the_machine_cannot_read_stays(self, folder, retriever, monkeypatch):
        file = index_file(folder, retriever)
        file.write_bytes(b"sound")
        opened = open

        def failing(path, *given, **how):
            if Path(path) == file:
                raise OSError(errno.EIO, "")
            return opened(path, *given, **how)

        monkeypatch.setattr(reading, "open", failing, raising=False)
        with pytest.raises(UserError, match=r"\.npz: the index cannot be read: Input/output error"):
            up_to_date(folder, retriever)
        assert file.read_bytes() == b"sound"

    @pytest.mark.slow
    def test_a_video_that_hangs_is_named_and_the_rest_go_on(self, retriever, folder, monkeypatch):
        monkeypatch.setattr(watch, "TRIES", 1)
        monkeypatch.setattr(search, "spread_or_reason", hanging)
        index = {}
        failed = update(index, folder, retriever, processes=2, stall_seconds=1)
        assert failed["a.mp4"] == "gave no frame for 1 s and was ended"
        assert sorted(index) == ["b.MKV", "more/c.avi"]

    def test_models_are_told_apart_by_what_changes_a_videos_vector(self, retriever, monkeypatch):
        cell, mine = retriever.cell, retriever.fingerprint()
        shorter = replace(cell.data, text_tokens=20)
        assert Retriever(replace(cell, data=shorter, name="other")).fingerprint() == mine
        for change in (
            {"seed": 1},
            {"data": replace(cell.data, frames=6)},
            {"model": Model("tiny", stages=(STAGE,))},
            {"model": Model("tiny", shift="token_shift")},
        ):
            assert Retriever(replace(cell, **change)).fingerprint() != mine
        for stage in ("FRAMES", "EVALUATION"):
            with monkeypatch.context() as patch:
                patch.setattr(revisions, stage, 99)
                assert retriever.fingerprint() != mine

    def test_search_encodes_in_the_precision_of_evaluation_which_makes_another_model(self, retriever, monkeypatch):
        """Lowered to bfloat16, as on a GPU or a CPU that has units for it."""
        exact, lower = retriever, Retriever(replace(retriever.cell, precision="bfloat16"))
        monkeypatch.setattr(device, "multiplies_bfloat16", lambda _: False)
        assert exact.fingerprint() == lower.fingerprint() and in_fast_precision(exact.cell) == exact.cell
        monkeypatch.setattr(device, "multiplies_bfloat16", lambda _: True)
        assert exact.fingerprint() != lower.fingerprint() and in_fast_precision(exact.cell) == lower.cell
        video = torch.randint(256, (12, 3, 56, 56), dtype=torch.uint8), torch.ones(12, dtype=torch.bool)
        one, other = (model.encode_frames([video])[0] for model in (exact, lower))
        assert not torch.equal(one, other) and one @ other > 0.99
        one, other = (model.encode_sentences(["a grey video"]) for model in (exact, lower))
        assert not torch.equal(one, other)

    def test_an_interrupted_update_keeps_what_it_has(self, folder, monkeypatch):
        encode, calls = Retriever.encode_frames, []

        def interrupted(*arguments):
            calls.append(1)
            if len(calls) > 1:
                raise KeyboardInterrupt
            return encode(*arguments)

        monkeypatch.setattr(Retriever, "encode_frames", interrupted)
        monkeypatch.setattr(search, "update", partial(update, batch_size=1, encoders=1))
        retriever = Retriever(cell_of_weights("tiny", None, 4))
        with pytest.raises(KeyboardInterrupt):
            up_to_date(folder, retriever)
        assert len(read_index(index_file(folder, retriever))) == 1

    def test_an_unfinished_index_is_kept_now_and_then_and_a_full_disk_is_a_note(
        self, retriever, folder, monkeypatch, capsys
    ):
        kept, write = [], search.write_index

        def full_at_last(file, index):
            kept.append(len(index))
            if len(kept) == 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(file, index)

        monkeypatch.setattr(search, "KEEP_SECONDS", 0)
        monkeypatch.setattr(search, "write_index", full_at_last)
        monkeypatch.setattr(search, "update", partial(update, batch_size=1, encoders=1))
        for name in ("b.MKV", "broken.mp4"):
            (folder / name).unlink()
        index, _ = up_to_date(folder, retriever)
        assert kept[0] < 2 and kept[1] > 0 and kept[2] == 2  # a thread encodes meanwhile
        assert len(index) == 2 and len(read_index(index_file(folder, retriever))) == kept[1]
        note = f"note: the index cannot be kept for the next time: {index_file(folder, retriever)}: No space left"
        assert note in capsys.readouterr().err

    @pytest.mark.parametrize("stages", [(), (STAGE,)])
    def test_batches_change_vectors_by_rounding_alone(self, stages, folder):
        """A video shorter than the model's frames among them."""
        make_video(folder / "short.mp4", count=3)
        retriever, indices = Retriever(cell_of_weights("tiny", None, 4, stages)), ({}, {}, {})
        for size, encoders, index in zip((1, 3, 2), (1, 1, 2), indices, strict=True):
            update(index, folder, retriever, batch_size=size, encoders=encoders)
        for index in indices[1:]:
            assert index.keys() == indices[0].keys() and len(index) == 4
            for name, entry in index.items():
                assert np.allclose(entry.vector, indices[0][name].vector, atol=1e-6)


def write_result(directory: Path, cell: Cell) -> Path:
    """The results json of a cell in `directory`/results."""
    path = replace(cell, results=directory / "results").path(layout.RESULT)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"settings": cell.settings()}))
    return path


@pytest.fixture
def cell(tmp_path):
    """The results json of a trained cell, its weights where the cell says."""
    trained = tiny_cell(STAGE, variant="kmedoids")
    trained = replace(trained, data=replace(trained.data, frames=4, text_tokens=12))
    path = write_result(tmp_path, trained)
    save_weights(build(Model("tiny"), 7).state_dict(), "tiny", read_cell(path).path(layout.WEIGHTS))
    return path


def test_a_trained_cell_has_its_trained_weights(cell):
    assert torch.equal(Retriever(read_cell(cell)).model.visual.proj, build(Model("tiny"), 7).visual.proj)


def test_an_untrained_cells_weights_are_found_from_any_directory(tmp_path, monkeypatch):
    weights = build(Model("tiny"), 7).state_dict()
    save_weights(weights, "tiny", tmp_path / "results/weights/tiny.safetensors")
    for place in ("results/weights/tiny.safetensors", str(tmp_path / "results/weights/tiny.safetensors")):
        untrained = tiny_cell(model=Model("tiny", place), training=None, variant="zeroshot")
        path = write_result(tmp_path, untrained)
        assert torch.equal(Retriever(read_cell(path)).model.visual.proj, weights["visual.proj"])
        assert read_cell(path).settings()["model"]["weights"] == place
        with monkeypatch.context() as patch:
            patch.chdir(path.parent)
            assert torch.equal(Retriever(read_cell(path.name)).model.visual.proj, weights["visual.proj"])


def test_a_sentence_is_too_long_where_the_results_count_it_so(retriever):
    tokens = retriever.cell.data.text_tokens
    for words in (tokens - 2, tokens - 1):
        sentence = " ".join(["dog"] * words)
        assert retriever.too_long(sentence) == (count_cut([sentence], retriever.cell) == 1) == (words > tokens - 2)


SENTENCES = ["grey", "wow !! what a dog!!", "", "a dog jumps into a lake and then " * 20]


def test_what_follows_a_sentences_end_changes_nothing(retriever):
    """`!` is the token 0, as the padding is; the last sentence is longer than what the model reads."""
    with torch.no_grad():
        whole = retriever.model.encode_text(retriever.texts.ids(SENTENCES))
    for sentence, vector in zip(SENTENCES, whole, strict=True):
        assert torch.allclose(retriever.encode_sentences([sentence])[0], vector, atol=1e-6)
    assert torch.allclose(retriever.encode_sentences(SENTENCES), whole, atol=1e-6)


def test_the_command_prints_rank_similarity_and_path_of_each_sentence(folder, cell, run, capsys, monkeypatch):
    """One file's name is not UTF-8, one cannot be read, and one sentence is longer than what the model reads."""
    (folder / "a.mp4").rename(os.fsdecode(os.fsencode(folder) + b"/\xff.mp4"))
    monkeypatch.setattr(sys, "argv", ["centerclip", "search", str(folder), "many words " * 9, "--cell", str(cell)])
    cli.main()
    told = capsys.readouterr()
    assert r"\udcff.mp4" in told.out and f"left out: {folder / 'broken.mp4'}: not a video" in told.err
    assert "note: only the sentence's first 10 tokens are read" in told.err
    (folder / os.fsdecode(b"\xff.mp4")).unlink()
    sentences = ["something grey", "red", "something grey"]
    asked = ("search", folder, *sentences, "--cell", cell, "--top", 2)
    parts = [part.splitlines() for part in run(*asked).split("\n\n")]
    assert [part[0] for part in parts] == sentences and parts[0] == parts[2]
    assert [line.split()[0] for line in parts[1][1:]] == ["1", "2"]
    made = json.loads(run(*asked, "--json"))
    assert made["left_out"].keys() == {"broken.mp4"} and [one["sentence"] for one in made["answers"]] == sentences
    for part, answer in zip(parts, made["answers"], strict=True):
        lines = [f"{folder / one['video']} {one['similarity']:.3f}".split() for one in answer["videos"]]
        assert [line.split()[:0:-1] for line in part[1:]] == lines


def test_mistakes_are_one_line(folder, cell, tmp_path, mistake):
    (tmp_path / "empty").mkdir()
    other = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, other)
    tiny = ("--backbone", "tiny", "--weights")
    for arguments, expected in (
        ((tmp_path / "none", "grey"), "none: no such folder"),
        ((Path(__file__), "grey"), "test_search.py: a file, not a folder"),
        ((tmp_path / "empty", "grey"), "empty: no videos in it"),
        ((folder, " "), "the sentence is empty"),
        ((folder,), "give either sentences or --serve"),
        ((folder, "grey", "--serve"), "give either sentences or --serve"),
        ((folder, "--serve", "--port", 99999, "--cell", cell), "port 99999: the largest one is 65535"),
        ((folder, "grey", "--cell", cell, "--cell", cell), "this command takes one --cell"),
        ((folder, "grey", *tiny, other), "other.safetensors: not those of tiny: the file lacks"),
        ((folder, "grey", *tiny, tmp_path / "no.pt"), "no.pt: no such file"),
        ((folder, "grey", "--cell", other), "other.safetensors: not a cell or its results"),
        ((folder, "grey", "--cell", tmp_path / "no.json"), "no.json: No such file or directory"),
        ((folder, "grey", "--cell", cell, "--frames", 3), "segments 2 does not divide the 3 frames"),
        ((folder, "grey", "--cell", cell, "--backbone", "tiny"), "go with --weights; a cell has its own"),
    ):
        line = mistake(cli.main, "search", *arguments)
        assert line.startswith("error: ") and expected in line
    assert "'0' is not a whole number from 1 up" in mistake(cli.main, "search", ".", "grey", "--top", 0, status=2)


def test_real_clips_good_and_broken(shared_clips, retriever):
    index = {}
    assert update(index, shared_clips, retriever, processes=2) == {
        "moviepy__result.webm": "empty file (0 bytes)",
        "exoplayer__invalid-bitstream.webm": "no frame decodes",
        "exoplayer__sample_opus.mp4": "no video stream",
    }
    assert len(index) == len(pd.read_csv(shared_clips / "manifest.csv")["file"].unique()) - 3
