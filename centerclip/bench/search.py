"""Measure times of search: indexing a folder in batches and one video at a time, an answer, the ranks of many vectors.
Weights are random and vectors generated, which takes as long as with real ones."""

import argparse
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import pandas as pd
import torch
from torch.nn.functional import normalize

from centerclip import backbones
from centerclip.backbones.device import computed_in
from centerclip.command import UserError, positive, run, write_json
from centerclip.evaluate.costs import elapsed, in_turns
from centerclip.evaluate.metrics import retrieval_metrics
from centerclip.search.index import Entry, Searcher, update
from centerclip.search.models import cell_of_weights, in_fast_precision
from centerclip.search.retriever import Retriever

SENTENCES = ("a dog jumps into a lake", "two people talk about a car in front of an old house", "cooking")
WIDTH = 512  # of the vectors that are ranked, as ViT-B-32's


def indexing(retriever: Retriever, videos: Path, processes: int, repeats: int) -> list[dict]:
    """A row for each way to encode, from one video at a time in float32 to that of `search`: indexed videos a second
    (the median of `repeats` turns), and the largest difference between a video's vectors in this and the first way.

    Raises:
        UserError: no video can be read.
    """
    quickest = Retriever(in_fast_precision(retriever.cell))
    ways = {
        "one at a time": (retriever, {"batch_size": 1, "encoders": 1}),
        "in batches": (retriever, {}),
        "in batches, as search does": (quickest, {}),
    }
    indices = {way: {} for way in ways}

    def indexed(way: str) -> float:
        encoder, options = ways[way]
        indices[way].clear()
        return elapsed(lambda: update(indices[way], videos, encoder, processes, **options))

    times = in_turns([partial(indexed, way) for way in ways], repeats)
    first, *_ = indices.values()
    if not first:
        raise UserError(f"{videos}: none of the videos in it can be read")
    rates = {way: 1000 * len(first) / median(of_way) for way, of_way in zip(ways, times, strict=True)}
    return [
        {
            "encoded": way,
            "computed in": computed_in(encoder.device, encoder.cell.precision),
            "videos": len(first),
            "videos a second": rates[way],
            "ratio": rates[way] / rates["one at a time"],
            "1 - cosine": max(1 - float(entry.vector @ first[name].vector) for name, entry in indices[way].items()),
        }
        for way, (encoder, _) in ways.items()
    ]


def answering(retriever: Retriever, videos: int, several: int, repeats: int) -> dict:
    """Milliseconds from a sentence to its 12 videos, in an index of the given number of generated videos with one
    vector or `several`, and the memory that this takes."""
    width, generator = retriever.encode_sentences(SENTENCES[:1]).shape[1], torch.Generator().manual_seed(0)
    before, shape, index = peak_resident(), (several, width) if several > 1 else (width,), {}
    for number in range(videos):
        vector = normalize(torch.randn(shape, generator=generator), dim=-1)
        index[f"{number:09}.mp4"] = Entry(0, 0, (vector.half() if several > 1 else vector).numpy())
    searcher, sentences = Searcher(index, retriever), cycle(SENTENCES)
    answer = partial(elapsed, lambda: searcher.answers([next(sentences)], top=12))
    (times,) = in_turns([answer], repeats * len(SENTENCES))
    taken = {"median ms": median(times), "slowest ms": max(times), "MB added": (peak_resident() - before) / 1e6}
    return {"videos": videos, "vectors a video": several, **taken, "MB of vectors": searcher.vectors.nbytes / 1e6}


def peak_resident() -> int:
    """The peak of resident memory of this process, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KB on Linux


def ranking(count: int, threads: int) -> dict:
    """Seconds and memory of the metrics of `count` texts and `count` videos. Call it in a process of its own."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    videos = normalize(torch.randn(count, WIDTH, generator=generator))
    texts = normalize(videos + 0.1 * torch.randn(count, WIDTH, generator=generator))
    before, start = peak_resident(), time.perf_counter()
    found = retrieval_metrics(texts, videos, torch.arange(count))
    taken = {"seconds": time.perf_counter() - start, "MB added": (peak_resident() - before) / 1e6}
    return {
        "texts": count,
        "videos": count,
        **taken,
        "MB of vectors": (texts.nbytes + videos.nbytes) / 1e6,
        "metrics": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.bench.search", description=__doc__)
    parser.add_argument("--videos", type=Path, help="index this folder; nothing is written in it")
    parser.add_argument("--index", type=positive, help="videos of a generated index to search, such as 10000")
    parser.add_argument("--vectors", type=positive, default=1, help="vectors of each generated video (default: 1)")
    parser.add_argument("--ranks", type=positive, help="number of texts, and of videos, to rank, such as 100000")
    parser.add_argument("--backbone", type=backbones.named, default="ViT-B-32")
    parser.add_argument("--processes", type=positive, default=2, help="processes that decode")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), help="threads of PyTorch")
    parser.add_argument("--repeats", type=positive, default=5)
    parser.add_argument("--out", type=Path, help="also write all results here, json")

    def job(arguments: argparse.Namespace) -> None:
        found = {}
        torch.set_num_threads(arguments.threads)
        if arguments.ranks:
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                found["ranks"] = [pool.submit(ranking, arguments.ranks, arguments.threads).result()]
        if arguments.videos or arguments.index:
            retriever = Retriever(cell_of_weights(arguments.backbone, None))
        if arguments.videos:
            found["indexing"] = indexing(retriever, arguments.videos, arguments.processes, arguments.repeats)
        if arguments.index:
            found["answers"] = [answering(retriever, arguments.index, arguments.vectors, arguments.repeats)]
        if not found:
            raise UserError("nothing to measure: name --videos, --index or --ranks")
        for rows in found.values():
            table = pd.DataFrame(rows).drop(columns="metrics", errors="ignore")
            print(table.to_markdown(index=False, floatfmt=".3g") + "\n")
        if arguments.out:
            named = ("backbone", "processes", "threads", "repeats")
            write_json(arguments.out, {name: getattr(arguments, name) for name in named} | found)

    run(parser, job)


if __name__ == "__main__":
    main()
