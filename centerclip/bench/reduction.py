"""Compare all methods at equal cost: set each method to the given budgets, shares of the baseline's operations, and
measure it beside the baseline in one run, with random weights and generated videos."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pandas as pd
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from centerclip import backbones
from centerclip.backbones.clip import CenterCLIP, build, freeze
from centerclip.backbones.device import device_name, pick_device
from centerclip.command import UserError, above_zero, positive, run, tell, typed, write_json
from centerclip.evaluate.costs import generated, gflops, milliseconds, saved_bytes, smooth_videos, tokens_per_block
from centerclip.evaluate.operations import costly_clustering, of_blocks, parts
from centerclip.method import schedules
from centerclip.method.fit import check_stages
from centerclip.method.reduced import ReducedCLIP
from centerclip.method.reduction import sees_pixels
from centerclip.method.reduction.rlt import changes
from centerclip.method.stage import Model, Stage
from centerclip.report import documents, figures
from centerclip.report.plots import style
from centerclip.settings import resolve
from centerclip.settings.config import read_config

BUDGETS = (0.8, 0.65, 0.5)
CONTROLS = {"frames": "frames", "image_size": "pixels"}  # what a control sets -> its name among the methods


class Encoder(NamedTuple):
    """A model, the frames of its videos, and the side of a frame in pixels."""

    model: Model
    frames: int
    image_size: int


def methods(overlays: Sequence[Path] = ()) -> dict[str, dict]:
    """The compared methods, name -> settings: the variants of the config's list `bench` without the baseline. Controls
    that set the same key of CONTROLS are one method.

    Raises:
        UserError: as `read_config`, or a variant has nothing that can be set to a budget.
    """
    checked, found = read_config(overlays), {}
    for name in checked["lists"]["bench"]:
        given = checked["variants"][name]
        if key := controlled(given):
            found[CONTROLS[key]] = given
        elif "schedule" in given or len(given.get("stages", [])) == 1:
            found[name] = given
        elif name != "baseline":
            raise UserError(f"{name}: a method at equal cost has one stage, a schedule, or fewer frames or pixels")
    return found


def controlled(given: dict) -> str | None:
    """The key of CONTROLS that the settings of a control have; None for a method that reduces tokens."""
    reduces = given.keys() & {"stages", "schedule"}
    return next((key for key in CONTROLS if key in given and not reduces), None)


def whole(backbone: str, frames: int) -> Encoder:
    """The baseline."""
    return Encoder(Model(backbone), frames, backbones.geometry(backbone).image_size)


def one_stage(stage: Stage, backbone: str, segments: int) -> Iterator[Model]:
    """A method of one stage after every block: `segments` of as many tokens as a frame has patches."""
    geometry = backbones.geometry(backbone)
    for block in range(geometry.blocks):
        placed = replace(stage, block=block, segments=segments, clusters=geometry.patches)
        yield Model(backbone, stages=(placed,))


def scheduled(name: str, backbone: str, frames: int, proportional: bool) -> Iterator[Model]:
    """A schedule with each number of tokens that a frame may lose, in the first blocks one more than in the others."""
    blocks = backbones.geometry(backbone).blocks
    for remove, more in product(range(backbones.geometry(backbone).patches // 2), range(blocks)):
        fewer = [remove + (block < more) for block in range(blocks)]
        options = {"remove": fewer if more else remove}
        yield Model(backbone, stages=schedules.stages(name, blocks, frames, options), proportional=proportional)


def nearest(encoders: Iterator[Encoder], target: float) -> Encoder:
    """The encoder whose operations are nearest to `target`."""
    return min(encoders, key=lambda encoder: abs(of_blocks(*encoder) - target))


def run_length(stage: Stage, backbone: str, frames: int, share: float) -> Model:
    """RLT's `stage`, whose threshold leaves `share` of a smooth video's tokens."""
    geometry = backbones.geometry(backbone)
    video = smooth_videos(1, frames, geometry.image_size)
    later = changes(video, geometry.patch_size)  # of all frames but the first
    tokens = share * frames * (1 + geometry.patches) - frames - geometry.patches
    threshold = torch.quantile(later, min(max(1 - tokens / later.numel(), 0), 1)).item()
    return Model(backbone, stages=(replace(stage, options={"threshold": round(threshold, 4)}),))


def fitted(given: dict, backbone: str, frames: int, segments: int, budget: float) -> Encoder:
    """The setting of a method, of `methods`, whose operations are nearest to the share `budget` of the baseline's."""
    full, patch = whole(backbone, frames), backbones.geometry(backbone).patch_size
    target, control = budget * of_blocks(*full), controlled(given)
    if control == "frames":
        return nearest((full._replace(frames=count) for count in range(1, frames + 1)), target)
    if control == "image_size":
        sizes = range(patch, full.image_size + 1, patch)
        return nearest((full._replace(image_size=size) for size in sizes), target)
    if "schedule" in given:
        models = scheduled(given["schedule"]["name"], backbone, frames, given.get("proportional", False))
    else:
        stage = resolve.stage({"block": 0}, given["stages"][0])
        if sees_pixels(stage.algorithm):
            return full._replace(model=run_length(stage, backbone, frames, budget))
        models = one_stage(stage, backbone, segments)
    return nearest((full._replace(model=model) for model in models), target)


def setting(encoder: Encoder) -> str:
    """The settings of a `fitted` method, in words."""
    model, frames, image_size = encoder
    if model.plain_clip:
        return f"{frames} frames of {image_size} px"
    if len(model.stages) != 1 or model.stages[0].inside:  # a schedule
        fewer = [stage.remove for stage in model.stages if isinstance(stage.remove, int)]
        return "r " + (" ".join(map(str, fewer)) if len(set(fewer)) > 1 else str(max(fewer, default=0)))
    (stage,) = model.stages
    return f"threshold {stage.options['threshold']}" if sees_pixels(stage.algorithm) else f"block {stage.block}"


def settings(
    backbone: str, frames: int, segments: int, budgets: Sequence[float], given: dict[str, dict]
) -> pd.DataFrame:
    """Each of the `methods` given at each budget, a row each: `method`, `budget`, the `encoder` and its `setting` in
    words; the baseline first. Raises UserError for a method that does not fit."""
    rows = [{"method": "baseline", "budget": None, "encoder": whole(backbone, frames), "setting": ""}]
    for budget, method in product(budgets, given):
        try:
            encoder = fitted(given[method], backbone, frames, segments, budget)
            check_stages(encoder.model, frames, backbones.geometry(backbone))
        except UserError as error:
            raise UserError(f"{method}: {error}") from None
        if line := costly_clustering(parts(backbone), encoder.model.stages, frames):
            tell(f"warning: {method} at {budget:g}: {line}")
        rows.append({"method": method, "budget": budget, "encoder": encoder, "setting": setting(encoder)})
    return pd.DataFrame(rows)


def measured(compared: pd.DataFrame, repeats: int, batch: int, device: torch.device) -> pd.DataFrame:
    """`compared` with the costs of each model. Times of one video and of `batch` videos alternate with the baseline's,
    so that a slow moment meets both. Ratios are medians over turns. The baseline's own row shows the noise of the
    machine: it compares two times of one network."""
    full, rows = compared["encoder"].iloc[0], []

    @cache
    def clip(image_size: int) -> CenterCLIP:
        built = build(full.model, 0, image_size).eval().to(device)
        freeze(built, "stem")
        return built

    baseline = ReducedCLIP(clip(full.image_size), (), False)
    for model, *shape in tqdm(compared["encoder"], "reduction", unit="model"):
        reduced = ReducedCLIP(clip(shape[1]), model.stages, model.proportional)
        shapes = [full[1:], tuple(shape)]
        videos = {count: generated(count, shapes, device) for count in {1, batch}}
        times = {count: milliseconds([baseline, reduced], given, repeats) for count, given in videos.items()}
        best = [min(median(whole for whole, _ in turns[side]) for turns in times.values()) for side in range(2)]
        ratios = [own / reference for (reference, _), (own, _) in zip(*times[1], strict=True)]
        rows.append(
            {
                "tokens_per_block": tokens_per_block(reduced, videos[1][1]),
                "gflops": gflops(reduced, videos[1][1]),
                "saved_mb": saved_bytes(reduced, videos[1][1]) / 1e6,
                "ms": median(whole for whole, _ in times[1][1]),
                "ms_ratio": median(ratios),
                "batch_ms": best[1],
                "batch_ratio": best[1] / best[0],
                "share": median(inside / whole for whole, inside in times[1][1]),
            }
        )
    rows = compared.drop(columns="encoder").join(pd.DataFrame(rows))
    rows["gmacs"], rows["gflops_ratio"] = rows["gflops"] / 2, rows["gflops"] / rows["gflops"].iloc[0]
    rows["time / GFLOPs"] = rows["ms_ratio"] / rows["gflops_ratio"]
    rows["batch time / GFLOPs"] = rows["batch_ratio"] / rows["gflops_ratio"]
    return rows


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """The printed table."""
    columns = {
        "method": "method", "budget": "budget", "setting": "setting", "gflops": "GFLOPs", "gmacs": "G multiply-adds",
        "gflops_ratio": "GFLOPs ratio", "tokens_per_block": "tokens by block", "saved_mb": "MB for backward",
        "ms": "ms / video", "batch_ms": "ms in the best batch", "share": "in reduction",
        "time / GFLOPs": "time / GFLOPs", "batch time / GFLOPs": "in the best batch",
    }  # fmt: skip
    table = rows[list(columns)].rename(columns=columns)
    table["budget"] = ["" if pd.isna(budget) else f"{budget:g}" for budget in table["budget"]]
    table["tokens by block"] = [" ".join(map(str, tokens)) for tokens in table["tokens by block"]]
    table["in reduction"] = [f"{share:.1%}" for share in table["in reduction"]]
    return table.round({"GFLOPs": 2, "G multiply-adds": 2, "MB for backward": 1, "ms / video": 1, "GFLOPs ratio": 3,
                        "ms in the best batch": 1, "time / GFLOPs": 3, "in the best batch": 3})  # fmt: skip


def draw(rows: pd.DataFrame, title: str) -> Figure:
    """Draw time over operations, both as shares of the baseline's. On the diagonal, the time saved is the operations
    saved."""
    style.apply()
    figure, (axes,) = style.panels(1, 7.2, 4.8)
    data = rows[rows["budget"].notna()].rename(columns={"method": "variant"})
    look = style.looks(data["variant"])
    style.marks(axes, data, "gflops_ratio", "ms_ratio", look)
    axes.axline((1, 1), slope=1, color="0.3", linestyle="--", zorder=0.9)  # which widens no axis
    axes.margins(0.08)
    axes.set(xlabel="operations (share of the baseline's)", ylabel="time of a video (share of the baseline's)")
    style.add_legend(figure, style.legend_of(look, lines=False))
    slower = data.loc[data["ms_ratio"] > 1, "variant"].nunique()
    finding = f"{slower} of {len(look)} methods take longer than the baseline at some budget"
    note = "On the dashed line a method saves as much time as operations. Below it, it saves more."
    return style.describe(figure, data.assign(benchmark=title), finding, note)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.bench.reduction", description=__doc__)
    parser.add_argument("--backbone", type=backbones.named, default="ViT-B-32", help="architecture (default: ViT-B-32)")
    parser.add_argument("--frames", type=positive, default=12, help="frames of a video (default: 12)")
    parser.add_argument("--segments", type=positive, default=4, help="segments of methods of one stage (default: 4)")
    parser.add_argument("--budgets", type=above_zero, nargs="+", default=BUDGETS, help="shares of the baseline's")
    parser.add_argument("--config", type=Path, nargs="+", default=[], help="config changes, such as your own methods")
    parser.add_argument("--methods", nargs="+", help="variants of the config's list `bench` (default: all)")
    parser.add_argument("--repeats", type=positive, default=3, help="least turns of each method (default: 3)")
    parser.add_argument("--batch", type=positive, default=2, help="size of the batch, besides one video (default: 2)")
    parser.add_argument("--threads", type=positive, help="CPU threads (default: PyTorch's)")
    parser.add_argument("--out", type=Path, help="write NAME.json, the table NAME.md and the plot NAME.png")

    def job(arguments: argparse.Namespace) -> None:
        torch.set_num_threads(arguments.threads or torch.get_num_threads())
        device = pick_device()
        backbone, frames = arguments.backbone, arguments.frames
        given = methods(arguments.config)
        for name in arguments.methods or []:
            if name not in given:
                raise UserError(f"--methods {name}: not in the config's list `bench`, of {', '.join(given)}")
        chosen = {name: given[name] for name in arguments.methods or given}
        compared = settings(backbone, frames, arguments.segments, arguments.budgets, chosen)
        rows = measured(compared, arguments.repeats, arguments.batch, device)
        where = f"{backbone}, {frames} frames, {device_name(device)}, {torch.get_num_threads()} threads"
        text = shown(rows).to_markdown(index=False)
        print(text)
        if arguments.out:
            conditions = {"device": device_name(device), "threads": torch.get_num_threads(), "torch": torch.__version__}
            write_json(Path(f"{arguments.out}.json"), conditions | {"rows": rows.to_dict("records")})
            documents.write(arguments.out, [f"    {typed(parser)}", where, text], ".md")
            figures.save(draw(rows, where), Path(f"{arguments.out}.png"))

    run(parser, job)


if __name__ == "__main__":
    main()
