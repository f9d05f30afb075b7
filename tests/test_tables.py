"""A benchmark's table: what stands beside the paper's numbers."""

import pandas as pd
import pytest
import yaml
from conftest import REPOSITORY

from centerclip.config import cell
from centerclip.tables import beside_paper, published_as

CONFIG = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())


@pytest.mark.parametrize(
    ("benchmark", "variant", "name"),
    [
        ("msrvtt", "kmedoids", "kmedoids-s4"),  # the benchmark's default
        ("lsmdc", "kmedoids", "kmedoids-s6"),
        ("msrvtt", "kmedoids-s3", "kmedoids-s3"),
        ("msrvtt", "kmedoids-block-6", "kmedoids-s4"),  # a grid's point that is the default
        ("msrvtt", "kmedoids-b16-s4", "kmedoids-b16-s4"),
        ("msrvtt", "baseline-b16", "baseline-b16"),
        ("msrvtt", "zeroshot", "zeroshot"),
        ("msrvtt", "kmedoids-block-2", None),
        ("msrvtt", "kmedoids-frames-8", None),
        ("msrvtt", "kmedoids-mean", None),
        ("msrvtt", "kmedoids-cosine", None),
        ("msrvtt", "kmedoids-embedding", None),
        ("msrvtt", "kmedoids-progressive", None),
        ("msrvtt", "token_shift", None),
    ],
)
def test_a_cell_is_compared_with_the_papers_model_of_the_same_settings(benchmark, variant, name):
    assert published_as(cell(CONFIG, benchmark, variant)) == name


def test_every_row_of_the_paper_is_found_by_its_settings():
    for row in pd.read_csv(REPOSITORY / "config/paper.csv").dropna(subset="variant").itertuples():
        assert published_as(cell(CONFIG, row.benchmark, row.variant)) == row.variant


def test_published_numbers_stand_beside_ours():
    paper = pd.read_csv(REPOSITORY / "config/paper.csv")
    ours = pd.DataFrame({"benchmark": "msrvtt", "variant": ["kmedoids", "mine"], "published as": ["kmedoids-s4", None]})
    table = beside_paper(ours, paper).set_index("variant")
    assert table.loc["kmedoids", "paper t2v R@1"] == 43.6
    assert pd.isna(table.loc["mine", "paper t2v R@1"])
