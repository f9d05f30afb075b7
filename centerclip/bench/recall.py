"""Recall against cost with intervals: the demo's model trained by every method of the bench at one budget, several
seeds each, and each seed compared with the same seed's baseline, query by query. It runs the workflow, so that a second
call goes on where the first one stopped.
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
from centerclip.evaluate import ranks
from centerclip.evaluate.ranks import Ranks
from centerclip.evaluate.statistics import Estimate, differences, estimates
from centerclip.method.reduction.rlt import rlt
from centerclip.report import figures
from centerclip.report.plots import style
from centerclip.report.rows import R1
from centerclip.settings import layout, resolve
from centerclip.settings.cell import Cell
from centerclip.settings.config import read_config

OVERLAYS = [ROOT / "config/demo.yaml", ROOT / "config/bench.yaml"]
BENCHMARK = "shapes"
TELLS = """\
R@1 in per cent, mean and standard deviation over seeds. Differences are paired by seed and by query. In brackets: their
95 % interval over queries, from 10,000 resamples of videos with all their captions. "Over queries and seeds" adds the
noise of the seeds (Student's t); a difference larger than that is called better or worse. A seed draws the weights, the
order of training and the frames; the videos are the same drawn ones for all. The table cannot tell how methods rank on
real videos, with pretrained weights, or where a model is trained to its end. With so many methods, one in twenty
differences between equal methods would be told apart by chance."""


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


def read(files: list[Path]) -> dict[str, dict[int, dict[str, Ranks]]]:
    """{variant: {seed: {direction: Ranks}}} of results."""
    found = {}
    for file in files:
        settings = read_json(file)["settings"]
        found.setdefault(settings["variant"], {})[settings["seed"]] = ranks.read(ranks.beside(file))
    return found


def share_of_tokens(cell: Cell) -> float:
    """The share of their tokens that RLT leaves of a cell's stored videos: its cost is theirs, not that of the smooth
    videos which costs are measured on."""
    (stage,) = cell.model.stages
    store, geometry = FrameStore(cell.path(layout.FRAMES)), backbones.geometry(cell.model.backbone)
    videos = Videos([name for name, count in store.counts.items() if count], store, cell.data.frames)
    given = (normalise(videos[index][0], cell.data.images)[None] for index in range(len(videos)))
    kept = [rlt(frames, geometry.patch_size, **stage.options).sum().item() for frames in given]
    frames = cell.data.frames
    return (sum(kept) / len(kept) + frames) / (frames * (1 + geometry.patches))


def compare(trainings: dict[str, dict[int, dict[str, Ranks]]], costs: pd.DataFrame) -> pd.DataFrame:
    """A row a variant, in order: seeds, R@1 and its difference to the same seeds' baseline, each with its interval over
    queries and its standard deviation over seeds, what the difference tells, and costs as shares of the baseline's."""
    rows = []
    for variant, by_seed in trainings.items():
        own = list(by_seed.values())
        score = estimates(own)[R1]
        row = {"variant": variant, "seeds": score.seeds, "value": score.value, "std": score.seeds_std}
        if variant != "baseline":
            less = differences(own, [trainings["baseline"][seed] for seed in by_seed])[R1]
            row |= {"difference": less.value, "low": less.low, "high": less.high, "half": less.half, "p": less.p}
            row |= {"difference std": less.seeds_std, "verdict": verdict(less)}
        rows.append(row)
    shares = costs.set_index("variant")[["gflops_ratio", "saved_mb_ratio"]]
    return pd.DataFrame(rows).join(shares, on="variant")


def verdict(less: Estimate) -> str:
    """What a difference to the baseline tells, by its interval over queries and seeds."""
    return ("better" if less.value > 0 else "worse") if less.told else "cannot be told"


def shown(table: pd.DataFrame) -> str:
    """The table that is printed, markdown."""
    compared = table["verdict"].notna()
    text = pd.DataFrame(
        {
            "variant": table["variant"],
            "seeds": table["seeds"],
            R1: [f"{value:.1f} ± {std:.1f}" for value, std in zip(table["value"], table["std"], strict=True)],
            "difference to the baseline [over queries]": [
                f"{row.difference:+.1f} [{row.low:+.1f}, {row.high:+.1f}]" for row in table.itertuples()
            ],
            "± over queries and seeds": table["half"].map("{:.1f}".format),
            "it is": table["verdict"],
            "GFLOPs ratio": table["gflops_ratio"].map("{:.3f}".format),
            "ratio of bytes for backward": table["saved_mb_ratio"].map("{:.3f}".format).replace("nan", "-"),
        }
    )
    text.loc[~compared, text.columns[3:6]] = ""
    return text.to_markdown(index=False, disable_numparse=True)


def draw(table: pd.DataFrame) -> Figure:
    """The difference to the baseline's R@1 over the share of its operations, a mark a variant, with its interval over
    queries and seeds."""
    style.apply()
    figure = Figure(figsize=(7.6, 5.2), layout="constrained")
    axes = figure.subplots()
    data = table[table["verdict"].notna()]
    look = style.looks(data["variant"])
    for row, colour, marker in zip(data.itertuples(), look["palette"], look["markers"], strict=True):
        bar = {"yerr": row.half, "ecolor": colour, "capsize": 3, "color": colour, "mec": "black", "markersize": 7}
        axes.errorbar(row.gflops_ratio, row.difference, fmt=marker, label=row.variant, **bar)
    axes.axhline(0, color="0.3", linestyle="--", zorder=0.9)
    axes.set(xlabel="operations (share of the baseline's)", ylabel="t2v R@1, points above the baseline")
    style.join_legends(figure, data["variant"])
    seeds = dict.fromkeys([table["seeds"].min(), table["seeds"].max()])
    axes.set_title(f"{BENCHMARK}: {' to '.join(map(str, seeds))} seeds a method, 95 % intervals over queries and seeds")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.bench.recall", description=__doc__)
    parser.add_argument("--out", required=True, type=Path, help="write NAME.csv, the table NAME.md, the plot NAME.png")

    parser.add_argument("--made", action="store_true", help="compare the results that are there, and run no workflow")
    parser.add_argument("--config", type=Path, nargs="+", default=[], help="changes to it, such as methods of your own")

    def job(arguments: argparse.Namespace) -> None:
        overlays = [*OVERLAYS, *arguments.config]
        config = read_config(overlays)
        files, costs = results(config)
        if arguments.made:
            files = [file for file in files if file.exists()]
        else:
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
