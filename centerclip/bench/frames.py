"""What stored frames cost and save, beside the way people prepare videos today, on the same videos in one run.

That way: re-encode every video once to an mp4 of 3 frames a second with its shorter side at 224 pixels, then decode all
of that mp4 for every training sample and keep some of its frames. Ours: `data.video.shards`.
"""

import argparse
import io
import tempfile
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from statistics import median

import av
import numpy as np
import pandas as pd
from tqdm import tqdm

from centerclip.command import UserError, positive, run, write_json
from centerclip.data.datasets.files import listing
from centerclip.data.video.batches import sample
from centerclip.data.video.extraction import extract, squared
from centerclip.data.video.frames import FrameStore
from centerclip.data.video.reading import Lost, NoFrames
from centerclip.data.video.shards import combine, write_shard
from centerclip.evaluate.costs import elapsed, in_turns
from centerclip.report.forecast import SECONDS

FPS, SIZE, FRAMES = 3, 224, 12  # the paper's
WHOLE = float("nan")  # a clip's end
BENCHMARKS = {  # how many videos
    "msvd": 1970,
    "msrvtt": 10_000,
    "didemo": 10_464,
    "lsmdc": 109_487,
    "activitynet": 14_926,
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


def sample_of_mp4(path: Path, rng: np.random.Generator) -> np.ndarray:
    """A training sample, the usual way: decode the whole mp4, keep FRAMES frames, cut squares. [T, 3, SIZE, SIZE]."""
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        frames = list(container.decode(video=0))
    kept = [frames[index].to_ndarray(format="rgb24") for index in sample(len(frames), FRAMES, rng)[0]]
    return np.stack([np.asarray(squared(frame, SIZE)) for frame in kept]).transpose(0, 3, 1, 2)


def sample_of_store(store: FrameStore, rng: np.random.Generator) -> np.ndarray:
    """A training sample of the stored video "v": [T, 3, SIZE, SIZE]."""
    return store.read("v", sample(store.counts["v"], FRAMES, rng)[0])


def measure(videos: list[Path], directory: Path, repeats: int) -> pd.DataFrame:
    """Both ways on every video that decodes, on one core, in turns: a row a video.

    Raises:
        UserError: no video decodes.
    """
    rows = []
    for path in tqdm(videos, "benchmark", unit="video"):
        shard, mp4, report = (directory / f"{path.name}{suffix}" for suffix in (".lmdb", ".mp4", ".report.csv"))
        clip = pd.DataFrame([{"video_id": "v", "path": str(path), "start_s": 0.0, "end_s": WHOLE}])
        try:
            (extracted,) = extract(path, [(0, WHOLE)], FPS, SIZE)
            if not extracted.frames:
                raise NoFrames(extracted.reason)
            usual_prepare_ms = elapsed(partial(reencode, path, mp4))
        except (Lost, av.FFmpegError) as error:
            tqdm.write(f"{path.name}: left out ({error})")
            continue
        with redirect_stderr(io.StringIO()):  # its progress on a single video
            write_shard(clip, FPS, SIZE, shard)
        combine([shard.with_suffix(".csv")], directory).to_csv(report, index=False)
        store, rng = FrameStore(report), np.random.default_rng(0)
        ways = partial(sample_of_store, store, rng), partial(sample_of_mp4, mp4, rng)
        ours, usual = in_turns([partial(elapsed, way) for way in ways], repeats)
        rows.append(
            {
                "video": path.name,
                "seconds": store.counts["v"] / FPS,
                "prepare_ms": elapsed(partial(extract, path, [(0, WHOLE)], FPS, SIZE)),  # libraries are warm now
                "usual_prepare_ms": usual_prepare_ms,
                "bytes": shard.stat().st_size,
                "usual_bytes": mp4.stat().st_size,
                "sample_ms": median(ours),
                "usual_sample_ms": median(usual),
            }
        )
    if not rows:
        raise UserError("none of the videos decodes")
    return pd.DataFrame(rows)


def projection(table: pd.DataFrame) -> pd.DataFrame:
    """Minutes and gigabytes of preparing each benchmark, at the rates of `table`."""
    per_second = table[["prepare_ms", "bytes"]].sum() / table["seconds"].sum()
    rows = []
    for name, videos in BENCHMARKS.items():
        length = SECONDS[name]
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
