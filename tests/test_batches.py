"""Which frames of a video the model sees, and errors of loaders."""

import multiprocessing
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.cells import TRAINING, tiny_cell
from torch._subclasses import FakeTensorMode

from centerclip.command import UserError
from centerclip.data.video.batches import Pairs, leave_sigterm, loading_told, normalise, sample
from centerclip.settings.cell import Data


def test_evaluation_takes_the_middle_of_each_span():
    indices, mask = sample(30, 3)
    assert indices.tolist() == [5, 15, 25] and mask.all()
    assert sample(12, 12)[0].tolist() == list(range(12))


@pytest.mark.parametrize("count", [12, 60])
def test_evaluation_rounds_as_the_authors_code(count):
    """Of 16 frames in 12 spans, the middle of the 8th is frame 10 on paper, and 9 by the sum of rounded numbers."""
    for available in range(1, 3001):
        length = available / count
        middles = [int(length / 2 + length * i) for i in range(count)]
        shorter = [min(i, available - 1) for i in range(count)]
        assert sample(available, count)[0].tolist() == (middles if available >= count else shorter)


def test_short_video_repeats_its_last_frame_masked():
    indices, mask = sample(2, 4)
    assert indices.tolist() == [0, 1, 1, 1]
    assert mask.tolist() == [True, True, False, False]


@given(st.integers(1, 500), st.integers(1, 60), st.integers(0, 1000))
def test_training_takes_one_frame_of_each_span(available, count, seed):
    indices, mask = sample(available, count, np.random.default_rng(seed))
    assert mask.sum() == min(available, count) and indices.max() < available
    if available >= count:
        edges = np.arange(count + 1) * available / count
        assert ((np.floor(edges[:-1]) <= indices) & (indices < edges[1:])).all()


@pytest.mark.parametrize("available", [12, 100])
def test_largest_random_number_gives_the_last_frame(available):
    """11 plus the float before 1 is 12 in float64."""
    largest = SimpleNamespace(random=lambda count: np.full(count, np.nextafter(1, 0)))
    assert sample(available, 12, largest)[0].max() == available - 1


@pytest.mark.parametrize(
    ("available", "spans"), [(23, [[i] for i in range(12)]), (30, [[2 * i, 2 * i + 1] for i in range(12)])]
)
def test_floor_spans_have_whole_frames_and_leave_out_the_end(available, spans):
    """12 spans of 23 frames have 1 each: always frames 0 to 11; of 30 they have 2, and never frames 24 to 29."""
    draws = [sample(available, 12, np.random.default_rng(seed), "floor")[0] for seed in range(200)]
    assert [sorted(set(column.tolist())) for column in np.stack(draws, 1)] == spans
    whole = [sample(available, 12, np.random.default_rng(seed), "whole")[0].max() for seed in range(50)]
    assert max(whole) == available - 1
    assert sample(5, 12, np.random.default_rng(0), "floor")[0].tolist() == [0, 1, 2, 3, 4] + [4] * 7


NO_MEMORY = (
    "/dev/shm: the processes that load frames ran out of shared memory; allow more (docker run --shm-size=8g) or set"
    " `workers: 0`"
)


class Failing(torch.utils.data.Dataset):
    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise self.error


class TestWorkers:
    """Errors of a DataLoader's workers are one line, and the workers end."""

    def load(self, dataset):
        with loading_told():
            return list(torch.utils.data.DataLoader(dataset, num_workers=1, worker_init_fn=leave_sigterm))

    @pytest.mark.parametrize(
        ("error", "line"),
        [
            (UserError("0001.lmdb: it is cut short"), "0001.lmdb: it is cut short"),
            (OSError(5, "Input/output error", "0001.lmdb"), "[Errno 5] Input/output error: '0001.lmdb'"),
            (RuntimeError("unable to allocate shared memory(shm) for file </torch_1>"), NO_MEMORY),
        ],
    )
    def test_error_in_a_worker(self, error, line):
        told = None
        try:
            self.load(Failing(error))
        except UserError as failed:
            told = str(failed)
        assert told == line and not multiprocessing.active_children()

    @pytest.mark.parametrize("kind", [RuntimeError, ValueError, MemoryError])
    def test_unexpected_error_keeps_its_traceback_and_no_worker(self, kind):
        with pytest.raises(kind, match="Original Traceback"):
            self.load(Failing(kind("a bug")))
        assert not multiprocessing.active_children()

    def test_killed_worker(self):
        with pytest.raises(UserError, match=r"a process that loads frames was killed \(Killed\); use fewer `workers`"):
            self.load(Killed([0]))


class Killed(Failing):
    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


def test_normalise_inside_torch_export_changes_no_later_call():
    frames = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    with FakeTensorMode() as fake:
        normalise(fake.from_tensor(frames))
    assert type(normalise(frames)) is torch.Tensor


def test_normalise_is_that_of_clip():
    white, black = normalise(torch.tensor([255, 0], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 2, 2))
    assert white[0, 0, 0].item() == pytest.approx((1 - 0.48145466) / 0.26862954)
    assert black[2, 1, 1].item() == pytest.approx(-0.40821073 / 0.27577711)


class Store:
    """Frames that are their own index."""

    def __init__(self):
        self.counts = {"a": 40, "b": 3}

    def read(self, video_id, indices):
        return np.broadcast_to(np.asarray(indices, np.uint8)[:, None, None, None], (len(indices), 3, 2, 2)).copy()


@pytest.mark.slow
def test_pairs_of_an_epoch_depend_only_on_seed_and_epoch():
    rows = pd.DataFrame({"video_id": ["a", "a", "b"], "caption": ["one", "two", "three"]})
    cell = tiny_cell(data=Data(frames=4, text_tokens=8, image_size=2))

    def epoch(number, seed=1):
        pairs = Pairs(rows, Store(), replace(cell, seed=seed), number)
        return pairs.batches(2), [[part.tolist() for part in pairs[index]] for index in range(3)]

    assert epoch(0) == epoch(0)
    assert epoch(0)[1] != epoch(1)[1] and epoch(0)[1] != epoch(0, seed=2)[1]
    (batch,) = epoch(0)[0]
    assert len(set(batch)) == 2
    frames, mask, ids = Pairs(rows, Store(), cell, 0)[2]
    assert (frames.shape, frames.dtype, ids.shape) == ((4, 3, 2, 2), torch.uint8, (8,))
    assert mask.tolist() == [True] * 3 + [False]


def test_pairs_draw_from_the_spans_of_the_recipe():
    """Of 40 frames in 3 spans, those of 13 end at frame 38, those of the whole video with it."""
    rows = pd.DataFrame({"video_id": ["a"], "caption": ["one"]})
    last = {}
    for spans in ("floor", "whole"):
        cell = tiny_cell(data=Data(3, 8, 2), training=replace(TRAINING, spans=spans))
        pairs, seen = Pairs(rows, Store(), cell, 0), []
        for pairs.epoch in range(200):
            seen.append(int(pairs[0][0].max()))
        last[spans] = max(seen)
    assert last == {"floor": 38, "whole": 39}
