"""Results as one zip that others can compare with theirs, without weights, frames and videos.

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
from centerclip.command import UserError, atomic, first_line, is_damage, json_of, read_json
from centerclip.report.tables import read_costs, read_row

SCHEMA = 1  # of the zip; raised when older versions of `results_in` cannot read it
MANIFEST, CRATE, WORKFLOW = "manifest.json", "ro-crate-metadata.json", "Snakefile"
RESULT = re.compile(r"results/[^/]+_[^/]+\.json")
ABOUT = (
    "results/BENCHMARK_VARIANT.json: a cell's metrics, counts, training, versions, data revision and settings."
    " BENCHMARK_VARIANT.ranks.npz: the rank of each of its queries. BENCHMARK/costs.json: what the variants cost, on"
    " one device. Compare with other results by `centerclip leaderboard`."
)
FIXED = (1980, 1, 1, 0, 0, 0)  # the time of every member
LARGEST = 1 << 24  # bytes of a member that `results_in` reads
MOST = 10_000  # results that it reads of a zip


def export(results: Path, out: Path) -> dict[str, int]:
    """Write the zip of a results folder. Returns the numbers of its results, ranks and costs.

    Equal results make equal bytes. Raises UserError for a folder without results, and for a file that is not a cell's
    result or costs.
    """
    cells = sorted(results.glob("*_*.json"))
    if not cells:
        raise UserError(f"{results}: there is no result in it, such as shapes_kmedoids.json")
    ranks = [path for path in (cell.with_suffix(".ranks.npz") for cell in cells) if path.exists()]
    costs = sorted(results.glob("*/costs.json"))
    for check, paths in ((read_row, cells), (read_costs, costs)):
        for path in paths:
            check(path)
    dates = (read_json(path)["provenance"].get("evaluated") for path in cells)
    counts = {"results": len(cells), "ranks": len(ranks), "costs": len(costs)}
    made = {"schema": SCHEMA, "centerclip": version("centerclip"), "evaluated": max(filter(None, dates), default=None)}
    members = {f"results/{path.relative_to(results)}": path.read_bytes() for path in (*cells, *ranks, *costs)}
    members[MANIFEST] = as_json(made | {"counts": counts, "about": ABOUT})
    members |= crate(sorted(members), made)
    with atomic(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in sorted(members):
            member = zipfile.ZipInfo(name, FIXED)
            member.compress_type, member.external_attr, member.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
            archive.writestr(member, members[name])
    return counts


def as_json(content: dict) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def crate(names: list[str], made: dict) -> dict[str, bytes]:
    """The two files that make a Workflow RO-Crate of the files `names`: the Snakefile and the metadata. Nothing without
    the package rocrate, or where only the package is installed and not the repository."""
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


def results_in(path: Path) -> Iterator[tuple[str, dict]]:
    """The name, for messages, and the content of each result in a zip of `export`, anybody's: nothing goes to the disk.

    Raises UserError, with the member, for a zip of other content, for more than MOST results, and for a member that is
    damaged, no json, packed in a way that `export` does not use, or larger than LARGEST.
    """
    source = str(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            results = sorted(filter(RESULT.fullmatch, names))
            if MANIFEST not in names or not 0 < len(set(results)) == len(results) <= MOST:
                raise UserError(f"{path}: not made by `centerclip export`, which names 1 to {MOST:,} results once each")
            schema = json_of(member(archive, MANIFEST), source)["schema"]
            if schema > SCHEMA:
                raise UserError(f"{path}: its format is {schema}, and this version reads up to {SCHEMA}: upgrade")
            for name in results:
                source = f"{path}: {name}"
                yield source, json_of(member(archive, name), source)
    except Exception as error:
        if isinstance(error, UserError) or not is_damage(error) or getattr(error, "filename", None):
            raise
        raise UserError(f"{source}: damaged: {type(error).__name__}: {first_line(error)}") from None


def member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a member. Raises ValueError for more than LARGEST, or other packing, which may take any memory."""
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"packed by method {info.compress_type}")
    with archive.open(info) as opened:
        content = opened.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"more than {LARGEST:,} bytes")
    return content
