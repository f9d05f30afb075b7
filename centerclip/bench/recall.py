"""Compare the recall of all methods at one budget, with intervals: train the demo's model with every method of the
bench, several seeds each, and compare each seed with the baseline of the same seed, query by query. The workflow does
the training, so a second call continues where the first one stopped."""

import argparse
import subprocess
import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from centerclip import ROOT, backbones
from centerclip.command import UserError, read_json, run, typed
from centerclip.data.video.batches import Videos, normalise
from centerclip.data.video.frames import FrameStore
from centerclip.evaluate import operations
from centerclip.evaluate.statistics import estimates
from centerclip.method.reduction.rlt import rlt
from centerclip.report import documents, figures
from centerclip.report.compare import Model, compare, models
from centerclip.report.plots import style
from centerclip.report.rows import R1
from centerclip.settings import layout, resolve
from centerclip.settings.cell import Cell
from centerclip.settings.config import read_config

OVERLAYS = [ROOT / "config/demo.yaml", ROOT / "config/bench.yaml"]
BENCHMARK = "shapes"
TELLS = """\
R@1 in per cent: mean and standard deviation over seeds. Differences are paired by seed and by query. In brackets: their
95 % interval over queries, from 10,000 resamples of videos with all their captions. "Over queries and seeds" adds the
noise of the seeds (Student's t). A difference larger than that is called better or worse. A seed sets the weights, the
order of training and the frames; all methods see the same generated videos. The table cannot tell how methods rank on
real videos, with pretrained weights, or after a complete training. With so many methods, chance alone would call one in
twenty of the differences between equal methods better or worse."""


def workflow(targets: list[Path], overlays: list[Path]) -> None:
    """Make the targets with a config of `overlays`. Raises UserError if the workflow fails."""
    options = ["--cores", "all", "--rerun-incomplete", "--keep-going", "--quiet", "rules"]
    command = [sys.executable, "-m", "snakemake", *map(str, targets), *options, "--configfile", *map(str, overlays)]
    if subprocess.run(command, check=False).returncode:
        raise UserError("the workflow failed: see above, and results/logs")


def results(config: dict) -> tuple[list[Path], Path]:
    """The files of every cell's results and of the variants' costs, which the workflow makes."""
    names = resolve.cell_names(config, BENCHMARK)
    files = [resolve.cell(config, BENCHMARK, name).path(layout.RESULT) for name in names]
    return files, Path(layout.COSTS.format(benchmark=BENCHMARK))


def share_of_tokens(cell: Cell) -> float:
    """The share of tokens that RLT leaves of a cell's stored videos. Its cost depends on the video, and costs are
    measured on smooth ones."""
    (stage,) = cell.model.stages
    store, geometry = FrameStore(cell.path(layout.FRAMES)), backbones.geometry(cell.model.backbone)
    videos = Videos([name for name, count in store.counts.items() if count], store, cell.data.frames)
    given = (normalise(videos[index][0], cell.data.images)[None] for index in range(len(videos)))
    kept = [rlt(frames, geometry.patch_size, **stage.options).sum().item() for frames in given]
    frames = cell.data.frames
    return (sum(kept) / len(kept) + frames) / (frames * (1 + geometry.patches))


def table_of(compared: list[Model], costs: pd.DataFrame) -> pd.DataFrame:
    """A row for each variant, in order: seeds; R@1 and its difference to the same seeds' baseline, each with its
    interval over queries and its standard deviation over seeds; the verdict on the difference; costs as shares of the
    baseline's; and 10^6 trained parameters. Raises UserError without a baseline or a common seed."""
    baseline = next((model for model in compared if model.name == "baseline"), None)
    if baseline is None:
        raise UserError("the variant baseline has no results, and all others are compared with it")
    rows = []
    for model in compared:
        score = estimates(list(model.trainings.values()))[R1]
        row = {"variant": model.name, "seeds": score.seeds, "value": score.value, "std": score.seeds_std}
        if model is not baseline:
            less = compare(model, baseline).differences[R1]
            row |= {"difference": less.value, "low": less.low, "high": less.high, "half": less.half, "p": less.p}
            verdict = ("better" if less.value > 0 else "worse") if less.told else "cannot be told"
            row |= {"difference std": less.seeds_std, "verdict": verdict}
        rows.append(row)
    shares = costs.set_index("variant").reindex(
        columns=["gflops_ratio", "saved_mb_ratio", "trainable_m", "index_bytes"]
    )
    return pd.DataFrame(rows).join(shares, on="variant")


def shown(table: pd.DataFrame) -> str:
    """The printed table, in markdown."""
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
            "10^6 parameters trained": table["trainable_m"].map("{:.3f}".format),
            "index, bytes a video in float16": table["index_bytes"].map("{:.0f}".format),
        }
    )
    text.loc[~compared, text.columns[3:6]] = ""
    return text.to_markdown(index=False, disable_numparse=True)


def draw(table: pd.DataFrame) -> Figure:
    """Draw the difference between each variant's and the baseline's R@1, with its interval over queries and seeds, from
    the best to the worst. If variants differ in the bytes of a video in an index, a second panel shows the differences
    over these bytes."""
    style.apply()
    data = table[table["verdict"].notna()].sort_values("difference", ignore_index=True)
    sizes = sorted(table["index_bytes"].unique()) if table["index_bytes"].nunique() > 1 else []
    figure, panels = style.panels(1 + bool(sizes), 12.6 if sizes else 6.6, max(4, 1.8 + 0.28 * len(data)))
    look, words = style.looks(data["variant"]), "t2v R@1, points above the baseline"
    for place, row in enumerate(data.to_dict("records")):
        mark = look[row["variant"]] | {"linestyle": "", "ecolor": look[row["variant"]]["color"], "capsize": 3}
        panels[0].errorbar(row["difference"], place, xerr=row["half"], **mark)
        for axes in panels[1:]:
            axes.errorbar(row["index_bytes"], row["difference"], yerr=row["half"], **mark)
    for axes in panels[1:]:
        axes.axhline(0, color="0.3", linestyle="--", zorder=0.9)
        axes.set(xscale="log", xlabel="bytes of a video in a float16 index", ylabel=words)
        axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
        style.add_legend(figure, style.legend_of(look, lines=False))
    panels[0].axvline(0, color="0.3", linestyle="--", zorder=0.9)
    panels[0].set_yticks(range(len(data)), data["variant"])
    panels[0].set_xlabel(words)
    style.numbers(panels[0], range(len(data)), data["gflops_ratio"].map("{:.2f}".format), "GFLOPs")
    counts = data["verdict"].value_counts()
    title = f"R@1 beside the baseline's: {', '.join(f'{count} {name}' for name, count in counts.items())}"
    seeds = style.between(table["seeds"])
    note = f"{seeds} seeds a method. Whiskers: 95 % intervals over queries and seeds of the difference."
    note += " GFLOPs: share of the baseline's. Dashed: the baseline."
    return style.describe(figure, data.assign(benchmark=BENCHMARK), title, note)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.bench.recall", description=__doc__)
    parser.add_argument("--out", required=True, type=Path, help="write NAME.csv, the table NAME.md, the plot NAME.png")
    parser.add_argument("--made", action="store_true", help="compare existing results, and run no workflow")
    parser.add_argument("--config", type=Path, nargs="+", default=[], help="config changes, such as your own methods")

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
        cells = [resolve.cell(config, BENCHMARK, variant) for variant in measured["variant"]]
        measured["index_bytes"] = [operations.index_bytes(cell.model, *cell.data.shape) for cell in cells]
        table = table_of(models(files), measured)
        text = shown(table)
        print(text)
        documents.write(arguments.out, [f"    {typed(parser)}", text, TELLS], ".md", table=table)
        figures.save(draw(table), Path(f"{arguments.out}.png"))

    run(parser, job)


if __name__ == "__main__":
    main()
