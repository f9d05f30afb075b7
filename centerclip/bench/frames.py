"""What stored frames cost and save, beside the way people prepare videos today, on the same videos in one run.

That way: re-encode every video once to an mp4 of 3 frames a second with its shorter side at 224 pixels, then decode all
of that mp4 for every training sample and keep some frames of it. Ours: `data.video.shards`. Decoding itself is measured
beside libraries that seek: for the frames that are stored, and for the few that `search` takes of a whole video.
"""

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from centerclip.command import UserError, positive, run, write_json
from centerclip.data.datasets.files import listing
from centerclip.data.video.batches import sample
from centerclip.data.video.decoding import decode
from centerclip.data.video.extraction import choose, extract, jpeg, spread, spread_frames, squared
from centerclip.data.video.frames import FrameStore
from centerclip.data.video.reading import Lost, NoFrames
from centerclip.data.video.shards import combine, write_shard

FPS, SIZE, FRAMES = 3, 224, 12  # the paper's
WHOLE = float("nan")  # a clip's end
AT_ONCE = 16  # full-size frames of a peer's in memory
# Videos and mean length in seconds as their authors give them, ActivityNet's of the captions' train and val_1 files.
BENCHMARKS = {
    "MSVD": (1970, 10),
    "MSR-VTT": (10_000, 15),
    "DiDeMo": (10_464, 30),
    "LSMDC": (109_487, 5),
    "ActivityNet": (14_926, 117),
}


def reencode(path: Path, out: Path) -> None:
    """The usual preparation: FPS frames a second, shorter side SIZE, H.264 as libx264 does by default."""
    with av.open(str(path), metadata_errors="replace") as source, av.open(str(out), "w") as target:
        video, graph = source.streams.best("video"), av.filter.Graph()
        first = graph.add_buffer(template=video)
        rate = graph.add("fps", str(FPS))
        scale = graph.add("scale", f"w='if(gt(iw,ih),-2,{SIZE})':h='if(gt(iw,ih),{SIZE},-2)'")
        sink = graph.add("buffersink")
        for filter_, next_filter in ((first, rate), (rate, scale), (scale, sink)):
            filter_.link_to(next_filter)
        graph.configure()
        stream = None
        for frame in [*source.decode(video), None]:
            graph.push(frame)
            while True:
                try:
                    scaled = graph.pull()
                except (av.error.BlockingIOError, av.error.EOFError):
                    break
                if stream is None:
                    stream = target.add_stream("libx264", rate=FPS)
                    stream.width, stream.height, stream.pix_fmt = scaled.width, scaled.height, "yuv420p"
                    stream.codec_context.thread_count = 1
                scaled.pict_type, scaled.pts = av.video.frame.PictureType.NONE, None
                target.mux(stream.encode(scaled.reformat(format="yuv420p")))
        target.mux(stream.encode())


class Video(NamedTuple):
    """A video that a peer has opened, to be decoded on one core."""

    frames: int
    get: Callable[[np.ndarray], np.ndarray]  # the frames [n, H, W, 3] uint8 of n indices


class Peer(NamedTuple):
    """Another library that decodes chosen frames of a video."""

    open: Callable[[Path], Video]
    error: type[Exception]  # what it raises


def peers() -> dict[str, Peer]:
    """Those that are there, by name: decord, and torchcodec if it finds FFmpeg's libraries."""
    found = {}
    try:
        import decord
    except ImportError:
        pass
    else:

        def by_decord(path: Path) -> Video:
            video = decord.VideoReader(str(path), num_threads=1)
            return Video(len(video), lambda indices: video.get_batch(indices).asnumpy())

        found["decord"] = Peer(by_decord, decord.DECORDError)
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, RuntimeError):  # the latter without FFmpeg
        pass
    else:

        def by_torchcodec(path: Path) -> Video:
            video = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=1)
            return Video(len(video), lambda indices: video.get_frames_at(indices.tolist()).data.numpy())

        found["torchcodec"] = Peer(by_torchcodec, RuntimeError)
    return found


def sample_of_mp4(path: Path, peer: Peer, rng: np.random.Generator) -> np.ndarray:
    """A training sample, the usual way: decode the whole mp4, keep FRAMES frames, cut squares. [T, 3, SIZE, SIZE]."""
    video = peer.open(path)
    frames = video.get(np.arange(video.frames))
    indices, _ = sample(len(frames), FRAMES, rng)
    return np.stack([np.asarray(squared(frames[index], SIZE)) for index in indices]).transpose(0, 3, 1, 2)


def sample_of_store(store: FrameStore, frames: int, rng: np.random.Generator) -> np.ndarray:
    """A training sample of the stored video "v" that has `frames` frames: [T, 3, SIZE, SIZE]."""
    return store.read("v", sample(frames, FRAMES, rng)[0])


def by_peer(peer: Peer, path: Path, indices: np.ndarray, convert: Callable[[Image.Image], object]) -> list:
    """What `convert` makes of those frames of a video, as squares."""
    video = peer.open(path)
    parts = [indices[i : i + AT_ONCE] for i in range(0, len(indices), AT_ONCE)]
    return [convert(squared(frame, SIZE)) for part in parts for frame in video.get(part)]


def decoding(path: Path, found: dict[str, Peer], repeats: int) -> dict[str, float]:
    """What decoding a video takes: `store_ms` for the stored frames (JPEGs), `search_ms` for those of `search`, and the
    same of each peer, `NAME_store_ms` and `NAME_search_ms`, for the same indices: medians of `repeats` turns, in ms.

    `NAME_error` is the mean difference of 255 between a peer's frames and ours, of the frame where it is largest. All
    of a peer is NaN where it raises.
    """
    shown = decode(path, lambda _: [], np.asarray).shown
    stored, searched = choose(shown, FPS, 0, WHOLE), spread(shown, FRAMES)
    ways = {
        "store_ms": partial(extract, path, [(0, WHOLE)], FPS, SIZE),
        "search_ms": partial(spread_frames, path, FRAMES, SIZE),
    }
    errors, ours = {}, spread_frames(path, FRAMES, SIZE)
    for name, peer in found.items():
        try:
            theirs = by_peer(peer, path, searched, partial(np.asarray, dtype=float))
        except peer.error:
            errors |= dict.fromkeys((f"{name}_store_ms", f"{name}_search_ms", f"{name}_error"), np.nan)
            continue
        differences = np.abs(np.stack(theirs) - ours)
        errors[f"{name}_error"] = float(differences.mean((1, 2, 3)).max())
        ways[f"{name}_store_ms"] = partial(by_peer, peer, path, stored, jpeg)
        ways[f"{name}_search_ms"] = partial(by_peer, peer, path, searched, np.asarray)
    turns = [{name: milliseconds(way, 1) for name, way in ways.items()} for _ in range(repeats)]
    return pd.DataFrame(turns).median().to_dict() | errors


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Wall time of `work` in ms, the median of `repeats` runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def measure(videos: list[Path], directory: Path, repeats: int) -> pd.DataFrame:
    """Both ways on every video that decodes, one core, in turns: a row a video. The usual samples are decoded by the
    first of the peers. Raises UserError if there is none or no video decodes."""
    found = peers()
    if not found:
        raise UserError("neither decord nor torchcodec with FFmpeg's libraries is there, beside which this measures")
    first, *_ = found.values()
    rows = []
    for path in tqdm(videos, "benchmark", unit="video"):
        shard, mp4, report = (directory / f"{path.name}{suffix}" for suffix in (".lmdb", ".mp4", ".report.csv"))
        clip = pd.DataFrame([{"video_id": "v", "path": str(path), "start_s": 0.0, "end_s": WHOLE}])
        try:
            (extracted,) = extract(path, [(0, WHOLE)], FPS, SIZE)
            if not extracted.frames:
                raise NoFrames(extracted.reason)
            usual_prepare_ms = milliseconds(partial(reencode, path, mp4), 1)
        except (Lost, av.FFmpegError) as error:
            tqdm.write(f"{path.name}: left out ({error})")
            continue
        with redirect_stderr(io.StringIO()):  # its progress on a single video
            write_shard(clip, FPS, SIZE, shard)
        combine([shard.with_suffix(".csv")], directory).to_csv(report, index=False)
        store, rng = FrameStore(report), np.random.default_rng(0)
        frames, taken = store.counts["v"], decoding(path, found, min(repeats, 3))
        rows.append(
            {
                "video": path.name,
                "seconds": frames / FPS,
                "prepare_ms": taken.pop("store_ms"),
                "usual_prepare_ms": usual_prepare_ms,
                "bytes": shard.stat().st_size,
                "usual_bytes": mp4.stat().st_size,
                "sample_ms": milliseconds(partial(sample_of_store, store, frames, rng), repeats),
                "usual_sample_ms": milliseconds(partial(sample_of_mp4, mp4, first, rng), repeats),
                **taken,
            }
        )
    if not rows:
        raise UserError("none of the videos decodes")
    return pd.DataFrame(rows)


def beside_peers(table: pd.DataFrame) -> dict[str, float]:
    """Our decoding time over each peer's, in total, of the videos that it opens, and its largest error."""
    summary = {}
    for name in [column.removesuffix("_error") for column in table if column.endswith("_error")]:
        opened = table.dropna(subset=f"{name}_error")
        summary |= {
            f"videos_that_{name}_opens": len(opened),
            f"store_time_over_{name}s": opened["prepare_ms"].sum() / opened[f"{name}_store_ms"].sum(),
            f"search_time_over_{name}s": opened["search_ms"].sum() / opened[f"{name}_search_ms"].sum(),
            f"{name}s_largest_error": opened[f"{name}_error"].max(),
        }
    return summary


def projection(table: pd.DataFrame) -> pd.DataFrame:
    """Minutes and gigabytes of preparing each benchmark, at the rates of `table`."""
    per_second = table[["prepare_ms", "bytes"]].sum() / table["seconds"].sum()
    rows = []
    for name, (videos, length) in BENCHMARKS.items():
        core_minutes = videos * length * per_second["prepare_ms"] / 6e4
        rows.append(
            {
                "benchmark": name,
                "videos": videos,
                "seconds a video": length,
                "minutes, 8 cores": core_minutes / 8,
                "minutes, 64 cores": core_minutes / 64,
                "GB": videos * length * per_second["bytes"] / 1e9,
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.bench.frames", description=__doc__)
    parser.add_argument("--videos", required=True, type=Path, help="directory of videos")
    parser.add_argument("--repeats", type=positive, default=9, help="training samples drawn a video (default: 9)")
    parser.add_argument("--out", type=Path, help="also write everything here, json")

    def job(arguments: argparse.Namespace) -> None:
        videos = [arguments.videos / name for name in listing(arguments.videos).videos]
        with tempfile.TemporaryDirectory() as directory:
            table = measure(videos, Path(directory), arguments.repeats)
        table["ratio"] = table["usual_sample_ms"] / table["sample_ms"]
        print(table.round(1).to_markdown(index=False))
        total = table.drop(columns=["video", "ratio"]).sum()
        summary = {
            "videos": len(table),
            "video_seconds": total["seconds"],
            "videos_per_second_per_core": 1e3 * len(table) / total["prepare_ms"],
            "usual_videos_per_second_per_core": 1e3 * len(table) / total["usual_prepare_ms"],
            "bytes_per_video": total["bytes"] / len(table),
            "usual_bytes_per_video": total["usual_bytes"] / len(table),
            "sample_ms": total["sample_ms"] / len(table),
            "usual_sample_ms": total["usual_sample_ms"] / len(table),
            "sample_ratio": total["usual_sample_ms"] / total["sample_ms"],
            "sample_ratio_median": float(table["ratio"].median()),
            **beside_peers(table),
        }
        print("\n".join(f"{name}: {value:,.2f}" for name, value in summary.items()))
        projected = projection(table)
        print(projected.round(1).to_markdown(index=False))
        if arguments.out:
            parts = {"videos": table.to_dict("records"), "projection": projected.to_dict("records")}
            write_json(arguments.out, {"summary": summary, **parts})

    run(parser, job)


if __name__ == "__main__":
    main()
