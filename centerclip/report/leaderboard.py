"""Compare the results of several sources, including the paper, on the same models and test splits, in one table."""

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd

from centerclip.command import UserError, shown
from centerclip.report import tables
from centerclip.report.beside_paper import marked
from centerclip.report.documents import Document, Table
from centerclip.report.export import in_folder, read_zip
from centerclip.report.rows import CANDIDATES, LACKING, checked, label, naming
from centerclip.settings.cell import Cell, from_settings

PAPER = "paper"  # the source of the published numbers
COMPARED = ["t2v R@1", "t2v R@5", "t2v R@10", "v2t R@1"]
COUNTED = {"n_texts": "captions", "n_videos": "videos"}
NOTE = (
    "Scores are in per cent: the mean ± standard deviation over seeds. A tie counts against the query, but not in the"
    " paper's numbers. Where sources differ in seeds, device or settings, the values stand in the order of the columns."
)
UNKNOWN = "Results without a digest of their test split are compared by its counts alone: "
Line = dict[str, dict]  # of one benchmark and model: source -> its row, a mean over seeds


def read(path: Path) -> pd.DataFrame:
    """A `tables.row_of` each result of a source, with `model` (equal for equal models), `settings` and `revision`, the
    digest of the data (None in old results). The source is a zip of `export`, a results folder or a RESULT file. Raises
    UserError for other content."""
    if path.is_dir() or path.suffix == ".json":
        results = map(tables.read_result, in_folder(path) if path.is_dir() else [path])
    else:
        results = read_zip(path)
    rows, more = [], []
    with naming(path, "results of cells"):
        for row, result in results:
            cell, provenance = from_settings(result["settings"]), result["provenance"]
            seen = {"trained": cell.trained, "image_size": cell.data.image_size}
            model = json.dumps(asdict(replace(cell.model, weights=None)) | seen)
            revision = str(provenance.get("data_revision") or "") or None
            more.append([model, row.pop("seed"), revision, comparable(cell, provenance)])
            rows.append({column: value for column, value in row.items() if column != "ranks"})
    table = checked(pd.DataFrame(rows), path)
    table[["model", "seed", "revision", "settings"]] = pd.DataFrame(more, dtype=object)
    twice = table[table.duplicated(["benchmark", "variant", "seed"])]
    if len(twice):
        raise UserError(f"{path}: it has two results of {twice['variant'].iloc[0]}, seed {twice['seed'].iloc[0]}")
    return table


def comparable(cell: Cell, provenance: dict) -> dict[str, str]:
    """The settings that may differ between results of one model, by name."""
    groups = {"data": asdict(cell.data), "training": asdict(cell.training) if cell.training else {}}
    found = {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}
    found |= {"weights": cell.model.weights, "precision": cell.precision}
    found["centerclip"] = provenance.get("versions", {}).get("centerclip")
    return {name: str(value) for name, value in found.items()}


def board(sources: dict[str, pd.DataFrame]) -> tuple[list[Line], list[str]]:
    """The lines of all comparable results, and a sentence for each reason why results were left out. The first source
    of a benchmark sets its test split."""
    firsts, lines, left_out = {}, [], {}
    for source, table in sources.items():
        for benchmark, rows in table.groupby("benchmark", sort=False):
            first = firsts.setdefault(benchmark, rows.iloc[0])
            reasons = [another_split(row, first) for _, row in rows.iterrows()]
            told, kept = list(zip(rows["variant"], reasons, strict=True)), rows[[not reason for reason in reasons]]
            names = {row["variant"] for line in lines for row in line.values()}
            means = tables.over_seeds(kept.to_dict("records")).to_dict("records") if len(kept) else []
            for row in sorted(means, key=lambda row: row["variant"] not in names):
                told.append((row["variant"], put(row, source, lines)))
            for variant, reason in told:
                if reason:
                    left_out.setdefault(f"{source}: {benchmark}: {reason}", {})[variant] = None
    return lines, [f"{reason}; left out: {', '.join(variants)}" for reason, variants in left_out.items()]


def another_split(row: pd.Series, first: pd.Series) -> str | None:
    """The difference between a result's test split and that of the `first`; None if no difference is known."""
    for column, what in COUNTED.items():
        if row[column] != first[column]:
            return f"{row[column]:,} {what}, not {first[column]:,}"
    if row["revision"] and first["revision"] and row["revision"] != first["revision"]:
        return f"another test split: its captions or video ids differ ({row['revision']}, not {first['revision']})"
    return None


def put(row: dict, source: str, lines: list[Line]) -> str | None:
    """Put the `row` of a source into the line of its model and frames, or into a new line. Returns a reason if other
    sources have the model only with other frames."""

    def like(lines: list[Line], *columns: str) -> list[Line]:
        return [line for line in lines if all(one(line)[column] == row[column] for column in columns)]

    same = like([line for line in lines if source not in line], "benchmark", "model")
    fitting = like(same, "frames")
    if same and not fitting:
        return f"{row['frames']} frames a video, not {one(same[0])['frames']}"
    if not fitting:
        lines.append({source: row})
    else:
        [*like(fitting, "variant"), *fitting][0][source] = row
    return None


def one(line: Line) -> dict:
    """The row of a line's first source."""
    return next(iter(line.values()))


def with_paper(lines: list[Line], paper: pd.DataFrame) -> tuple[list[Line], list[str]]:
    """`lines` with the numbers of `paper`, of `tables.read_paper`, and a sentence for each benchmark that is left out
    because its number of test videos differs."""
    rows = tables.with_costs_and_paper(tables.nullable(pd.DataFrame(map(one, lines))), None, paper).to_dict("records")
    found, left_out = [], {}
    for line, row in zip(lines, rows, strict=True):
        tested, published, compared = row["n_videos"], row[CANDIDATES], pd.notna(row["paper_row"])
        if compared and abs(published - tested) > LACKING * published:
            left_out[f"{PAPER}: {row['benchmark']}: {published:,.0f} videos, not {tested:,}; left out"] = None
        elif compared:
            line = {source: made | {CANDIDATES: published} for source, made in line.items()}
            line[PAPER] = {score: row[tables.PAPER[score]] for score in COMPARED}
        found.append(line)
    return found, list(left_out)


def differing(line: Line) -> str:
    """The settings in which the sources of a line differ, with their values."""
    settings = pd.DataFrame([row["settings"] for row in line.values() if "settings" in row]).fillna("-")
    return ", ".join(f"{name} {several(settings[name])}" for name in settings if settings[name].nunique() > 1)


def several(values: Iterable) -> str:
    """Values for one cell of a table: a single one where all are equal."""
    texts = list(map(shown, values))
    return texts[0] if len(set(texts)) == 1 else " / ".join(texts)


def for_programs(lines: list[Line], names: list[str]) -> pd.DataFrame:
    """The csv: a row a line, the columns of each of the sources `names` in turn."""
    columns = [*(name for score in COMPARED for name in (score, f"{score} std")), "seeds", "device"]
    rows = []
    for line in lines:
        row = {column: one(line)[column] for column in ("benchmark", "variant", "frames")}
        row |= {f"{name} {column}": line.get(name, {}).get(column) for name in names for column in columns}
        rows.append(row | {"settings that differ": differing(line)})
    return pd.DataFrame(rows).dropna(axis="columns", how="all")


def for_people(lines: list[Line], names: list[str]) -> Document:
    """The table of the sources `names` and the sentences below it."""
    rows, missing = [], dict.fromkeys(COMPARED)
    for line in lines:
        made = [row for name, row in line.items() if name != PAPER]
        row = {"benchmark": several([made[0]["benchmark"]]), "model": several([label(made[0])])}
        row |= {column: several(row[column] for row in made) for column in ("device", "seeds")}
        row["settings that differ"] = differing(line)
        scores = [(score, name) for score in COMPARED for name in names]
        rows.append(row | {f"{name} {score}": marked(line.get(name, missing), score) for score, name in scores})
    old = [name for name in names if any(pd.isna(line[name].get("revision", "")) for line in lines if name in line)]
    return [Table(pd.DataFrame(rows), labels=5), NOTE, *([UNKNOWN + ", ".join(old) + "."] if old else [])]


def compared(paths: list[Path]) -> tuple[list[Line], list[str], list[str]]:
    """The lines of these sources, the names of the sources in the order of columns, and the reasons why results were
    left out. The paper's numbers, a csv, come first. Raises UserError for a source that is given twice, and for other
    files."""
    published = [path for path in paths if path.suffix == ".csv"]
    own = [path for path in paths if path not in published]
    if len(published) > 1 or not own:
        raise UserError(f"{paths[-1]}: give one csv of published numbers at most, and at least one zip or folder")
    for number, path in enumerate(own):
        if path.resolve() in map(Path.resolve, own[:number]):
            raise UserError(f"{path}: this source is given twice; give it once")
    short = [path.absolute().name.removesuffix(path.suffix) for path in own]
    names = short if len({PAPER, *short}) > len(short) else [str(path) for path in own]
    lines, left_out = board(dict(zip(names, map(read, own), strict=True)))
    if published:
        lines, further = with_paper(lines, tables.read_paper(published[0]))
        names, left_out = [PAPER, *names], [*left_out, *further]
    return lines, names, left_out
