"""Pack results as one zip that others can compare with theirs, without weights, frames and videos.

centerclip export results/ --out mine.zip
"""

import json
import re
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

from centerclip import ROOT
from centerclip.command import UserError, atomic, first_line, is_damage, json_of
from centerclip.evaluate.ranks import beside, read
from centerclip.report.tables import read_costs, read_result, row_of

SCHEMA = 1  # of the zip; raised when older versions of `read_zip` cannot read it
MANIFEST, CRATE, WORKFLOW = "manifest.json", "ro-crate-metadata.json", "Snakefile"
RESULT = re.compile(r"results/[^/]+_[^/]+\.json")
ABOUT = (
    "results/BENCHMARK_VARIANT.json: a cell's metrics, counts, training, versions, data revision and settings."
    " BENCHMARK_VARIANT.ranks.npz: the rank of each of its queries. BENCHMARK/costs.json: what the variants cost, on"
    " one device. Compare with other results by `centerclip leaderboard`."
)
FIXED = (1980, 1, 1, 0, 0, 0)  # the time of every member
LARGEST = 1 << 24  # bytes of a member that `read_zip` reads
MOST = 10_000  # results that it reads of a zip


def export(results: Path, out: Path) -> dict[str, int]:
    """Write the zip of a results folder. Returns the numbers of its results, ranks and costs.

    Equal results make equal bytes. Raises UserError for a folder without results, and for a file that is not a cell's
    result, its ranks or costs.
    """
    cells = in_folder(results)
    ranks = [beside(path) for path in cells if beside(path).exists()]
    costs = sorted(results.glob("*/costs.json"))
    for path in costs:
        read_costs(path)
    dates = [result["provenance"].get("evaluated") for _, result in map(read_result, cells)]
    counts = {"results": len(cells), "ranks": len(ranks), "costs": len(costs)}
    made = {"schema": SCHEMA, "centerclip": version("centerclip"), "evaluated": max(filter(None, dates), default=None)}
    members = {f"results/{path.relative_to(results)}": path.read_bytes() for path in (*cells, *ranks, *costs)}
    members[MANIFEST] = as_json(made | {"counts": counts, "about": ABOUT})
    members |= crate(sorted(members), made)
    with atomic(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, FIXED)
            info.compress_type, info.external_attr, info.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
            archive.writestr(info, members[name])
    return counts


def in_folder(results: Path) -> list[Path]:
    """The RESULT files of a results folder. Raises UserError if there are none."""
    if files := sorted(results.glob("*_*.json")):
        return files
    raise UserError(f"{results}: no results in this folder, such as shapes_kmedoids.json")


def as_json(content: dict) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def crate(names: list[str], made: dict) -> dict[str, bytes]:
    """The two files of a Workflow RO-Crate of the files `names`: the Snakefile and the metadata. Empty without the
    package rocrate, or if the package is installed without the repository."""
    snakefile = ROOT / WORKFLOW
    if not find_spec("rocrate") or not snakefile.exists():
        return {}
    from rocrate.model.file import File
    from rocrate.rocrate import ROCrate

    crate = ROCrate()
    crate.name, crate.description = "Results of CenterCLIP-repro", f"{ABOUT} Made by centerclip {made['centerclip']}."
    crate.license, crate.datePublished = "https://spdx.org/licenses/MIT", made["evaluated"] or "1980-01-01"
    crate.add_workflow(BytesIO(), WORKFLOW, main=True, lang="snakemake")
    for name in names:
        crate.add(File(crate, BytesIO(), name))
    return {WORKFLOW: snakefile.read_bytes(), CRATE: as_json(crate.metadata.generate())}


def read_zip(path: Path) -> Iterator[tuple[dict, dict]]:
    """The row and the content of each result in a zip of `export`. The zip can come from anybody, so nothing is written
    to disk.

    Raises UserError, with the member, for a zip of other content, for more than MOST results, and for a member that is
    damaged, packed in a way that `export` does not use, or too large.
    """
    source = str(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            results = sorted(filter(RESULT.fullmatch, names))
            if MANIFEST not in names or not 0 < len(set(results)) == len(results) <= MOST:
                raise UserError(f"{path}: not a zip of `centerclip export`, which has 1 to {MOST:,} results, each once")
            schema = json_of(member(archive, MANIFEST), source)["schema"]
            if schema > SCHEMA:
                raise UserError(f"{path}: its format is {schema}, and this version reads {SCHEMA}: upgrade centerclip")
            for name in results:
                source, ranks = f"{path}: {name}", None
                result = json_of(member(archive, name), source)
                if (file := str(beside(Path(name)))) in names:
                    source = f"{path}: {file}"
                    packed = BytesIO(member(archive, file))
                    with zipfile.ZipFile(packed) as arrays:
                        for info in arrays.infolist():
                            check_size(info, 8 * LARGEST)
                    ranks = read(packed, source)
                yield row_of(result, f"{path}: {name}", ranks), result
    except Exception as error:
        if isinstance(error, UserError) or not is_damage(error):
            raise
        raise UserError(f"{source}: damaged: {type(error).__name__}: {first_line(error)}") from None


def member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a member. Raises ValueError as `check_size`."""
    info = archive.getinfo(name)
    check_size(info, LARGEST)
    with archive.open(info) as opened:
        return opened.read(info.file_size + 1)  # without a number it would unpack all, whatever the size in `info`


def check_size(info: zipfile.ZipInfo, largest: int) -> None:
    """Raise ValueError for a member of more bytes than `largest`, and for a packing whose reader takes any memory."""
    if info.file_size > largest or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{info.filename} has {info.file_size:,} bytes, packed by method {info.compress_type}")
