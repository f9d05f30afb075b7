"""Recall against cost with its spread: the demo's model trained by every method of the bench at one budget, several
seeds each, and each seed compared with the same seed's baseline. It runs the workflow, so that a second call goes on
where the first one stopped.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from centerclip import ROOT, backbones
from centerclip.command import UserError, atomic, read_json, run, typed
from centerclip.data.video.batches import Videos, normalise
from centerclip.data.video.frames import FrameStore
from centerclip.method.reduction.rlt import rlt
from centerclip.report import figures
from centerclip.report.plots import style
from centerclip.settings import layout, resolve
from centerclip.settings.cell import Cell
from centerclip.settings.config import read_config

OVERLAYS = [ROOT / "config/demo.yaml", ROOT / "config/bench.yaml"]
BENCHMARK, SCORE = "shapes", "t2v R@1"
TELLS = """\
R@1 in per cent, mean and standard deviation over seeds; a seed draws the weights, the order of training and the frames.
The videos are the same drawn ones for all. What it can tell: whether a method trains, how far seeds are apart, and
which differences are larger than theirs, on these videos. What it cannot: how methods rank on real videos, with
pretrained weights, or where a model is trained to its end."""


def workflow(targets: list[Path], overlays: list[Path]) -> None:
    """Make the targets, with a config of `overlays`. Raises UserError if that fails."""
    options = ["--cores", "all", "--rerun-incomplete", "--keep-going", "--quiet", "rules"]
    command = [sys.executable, "-m", "snakemake", *map(str, targets), *options, "--configfile", *map(str, overlays)]
    if subprocess.run(command, check=False).returncode:
        raise UserError("the workflow failed: see above, and results/logs")


def results(config: dict) -> tuple[list[Path], Path]:
    """The results of every cell and the costs of the variants: files that the workflow makes."""
    names = resolve.cell_names(config, BENCHMARK)
    files = [resolve.cell(config, BENCHMARK, name).path(layout.RESULT) for name in names]
    return files, Path(layout.COSTS.format(benchmark=BENCHMARK))


def read(files: list[Path]) -> pd.DataFrame:
    """A row a result: variant, seed and text-to-video R@1 in per cent."""
    contents = list(map(read_json, files))
    return pd.DataFrame(
        {
            "variant": [content["settings"]["variant"] for content in contents],
            "seed": [content["settings"]["seed"] for content in contents],
            SCORE: [content["text_to_video"]["R@1"] for content in contents],
        }
    )


def share_of_tokens(cell: Cell) -> float:
    """The share of their tokens that RLT leaves of a cell's stored videos: its cost is theirs, not that of the smooth
    videos which costs are measured on."""
    (stage,) = cell.model.stages
    store, geometry = FrameStore(cell.path(layout.FRAMES)), backbones.geometry(cell.model.backbone)
    videos = Videos([name for name, count in store.counts.items() if count], store, cell.data.frames)
    given = (normalise(videos[index][0])[None] for index in range(len(videos)))
    kept = [rlt(frames, geometry.patch_size, **stage.options).sum().item() for frames in given]
    frames = cell.data.frames
    return (sum(kept) / len(kept) + frames) / (frames * (1 + geometry.patches))


def compare(scores: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """A row a variant, in order: seeds, mean and standard deviation of R@1, those of the difference to the same seed's
    baseline, how many seeds are better than it, and the costs as shares of the baseline's."""
    by_seed = scores.pivot(index="seed", columns="variant", values=SCORE)[list(dict.fromkeys(scores["variant"]))]
    difference = by_seed.sub(by_seed["baseline"], axis=0)
    shares = costs.set_index("variant").reindex(by_seed.columns)[["gflops_ratio", "saved_mb_ratio"]]
    table = pd.DataFrame(
        {
            "seeds": by_seed.count(),
            "mean": by_seed.mean(),
            "std": by_seed.std(),
            "difference": difference.mean(),
            "difference std": difference.std(),
            "better": (difference > 0).sum(),
        }
    )
    return table.join(shares).rename_axis("variant").reset_index()


def shown(table: pd.DataFrame) -> str:
    """The table that is printed, markdown."""
    return pd.DataFrame(
        {
            "variant": table["variant"],
            "seeds": table["seeds"],
            SCORE: [f"{mean:.1f} ± {std:.1f}" for mean, std in zip(table["mean"], table["std"], strict=True)],
            "to the same seed's baseline": [
                f"{mean:+.1f} ± {std:.1f}" if variant != "baseline" else ""
                for variant, mean, std in table[["variant", "difference", "difference std"]].itertuples(index=False)
            ],
            "seeds better": table["better"],
            "GFLOPs ratio": table["gflops_ratio"].map("{:.3f}".format),
            "ratio of bytes for backward": table["saved_mb_ratio"].map("{:.3f}".format).replace("nan", "-"),
        }
    ).to_markdown(index=False, disable_numparse=True)


def draw(table: pd.DataFrame) -> Figure:
    """R@1 over the share of the baseline's operations, a mark a variant, bars of one standard deviation."""
    style.apply()
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.subplots()
    look = style.looks(table["variant"])
    for row, colour, marker in zip(table.itertuples(), look["palette"], look["markers"], strict=True):
        spread = {"yerr": row.std, "ecolor": colour, "capsize": 3}
        axes.errorbar(row.gflops_ratio, row.mean, fmt=marker, color=colour, label=row.variant, mec="black", **spread)
    axes.set(xlabel="operations (share of the baseline's)", ylabel=style.R1)
    style.join_legends(figure, table["variant"])
    axes.set_title(f"{BENCHMARK}: {table['seeds'].min()} seeds a method, mean and standard deviation")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.bench.recall", description=__doc__)
    parser.add_argument("--out", required=True, type=Path, help="write NAME.csv, the table NAME.md, the plot NAME.png")

    parser.add_argument("--config", type=Path, nargs="+", default=[], help="changes to it, such as methods of your own")

    def job(arguments: argparse.Namespace) -> None:
        overlays = [*OVERLAYS, *arguments.config]
        config = read_config(overlays)
        files, costs = results(config)
        workflow([*files, costs], overlays)
        measured = pd.DataFrame(read_json(costs)["rows"])
        of_rlt = measured["variant"] == "rlt"
        if of_rlt.any():
            measured.loc[of_rlt, "gflops_ratio"] = share_of_tokens(resolve.cell(config, BENCHMARK, "rlt"))
        measured.loc[of_rlt, "saved_mb_ratio"] = None
        table = compare(read(files), measured)
        text = shown(table)
        print(text)
        with atomic(Path(f"{arguments.out}.csv")) as temporary:
            table.to_csv(temporary, index=False)
        with atomic(Path(f"{arguments.out}.md")) as temporary:
            temporary.write_text(f"    {typed(parser)}\n\n{text}\n\n{TELLS}\n")
        figures.save(draw(table), Path(f"{arguments.out}.png"))

    run(parser, job)


if __name__ == "__main__":
    main()
