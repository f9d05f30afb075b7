"""What the documentation says to type works, and what is generated of it is up to date."""

import json
import re
import runpy

import pytest
import torch
import yaml
from conftest import REPOSITORY
from safetensors.torch import save_file
from support.cells import STAGE, tiny_cell
from support.videos import make_video
from support.workflow import SMALL, copy_repository, jobs, snakemake

import centerclip
from centerclip.backbones.clip import build
from centerclip.settings import layout

PAGES = ["README.md", *(f"docs/{file.name}" for file in REPOSITORY.glob("docs/*.md"))]


def snippet(page: str, section: str, language: str) -> str:
    """The one block of a language in a section of a page."""
    page = (REPOSITORY / page).read_text()
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return block


def test_a_model_that_one_holds_is_reduced_in_less_than_ten_lines(capsys):
    code = snippet("README.md", "Your own model, videos, algorithm, data set", "python")
    assert len(code.splitlines()) < 10
    exec(code.replace("ViT-B-32-quickgelu", "ViT-S-32"), {})
    assert capsys.readouterr().out == "torch.Size([2, 384])\n"


@pytest.mark.slow
@torch.no_grad()
def test_a_model_of_timms_at_full_size_is_reduced_in_less_than_ten_lines(capsys):
    """With random weights; a video of one frame is that frame by the model itself."""
    code = snippet("docs/backbones.md", "Fewer tokens in a model that you hold", "python")
    assert len(code.splitlines()) < 10
    names = {}
    exec(code.replace(', pretrained="webli"', "").replace("(2, 12,", "(1, 4,"), names)
    assert capsys.readouterr().out == "torch.Size([1, 768])\n"
    frame = torch.randn(1, 3, 224, 224)
    expected = names["model"].encode_image(frame, normalize=True)
    got = centerclip.reduce(names["model"], "kmedoids", frames=1).encode_video(frame[None])
    assert torch.allclose(got, expected, atol=1e-6)


def test_the_python_example(tmp_path, monkeypatch):
    """On a cell of the tiny model and two generated videos; similarities by hand from the model itself."""
    example = snippet("docs/videos.md", "Search", "python")
    assert len(example.splitlines()) < 15
    cell = tiny_cell(STAGE, variant="kmedoids", results=tmp_path / "results")
    cell.path(layout.WEIGHTS).parent.mkdir(parents=True)
    cell.path(layout.RESULT).write_text(json.dumps({"settings": cell.settings()}))
    model = build(cell.model, seed=3).eval()
    save_file(model.state_dict(), cell.path(layout.WEIGHTS))
    make_video(tmp_path / "first.mp4", count=12)
    make_video(tmp_path / "second.mp4", count=25)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(example, names)
    assert names["similarity"].shape == (2, 2)
    ids = names["retriever"].tokenizer(["a small cyan cross vanishes"])
    with torch.no_grad():
        assert torch.allclose(names["sentences"][1], model.encode_text(ids)[0].cpu(), atol=1e-5)
    assert torch.allclose(names["videos"].norm(dim=1), torch.ones(2))
    by_hand = sum(x * y for x, y in zip(*(names[k][0].tolist() for k in ("sentences", "videos")), strict=True))
    assert names["similarity"][0, 0].item() == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.slow
def test_adding_an_algorithm(tmp_path):
    """The documented file and config, in a copy of the repository, through the real workflow."""
    code, overlay = (snippet("docs/adding.md", "An algorithm", language) for language in ("python", "yaml"))
    assert len((code + overlay).splitlines()) < 20
    name = re.search(r"^def (\w+)", code, re.MULTILINE)[1]
    repository = copy_repository(tmp_path, SMALL | yaml.safe_load(overlay))
    (repository / f"centerclip/method/reduction/{name}.py").write_text(code)
    done = snakemake(repository, f"results/shapes_{name}.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((repository / f"results/shapes_{name}.json").read_text())
    (stage,) = result["settings"]["model"]["stages"]
    assert (stage["algorithm"], stage["options"], stage["clusters"]) == (name, {"p": 1}, 49)
    assert result["training"] and 0 <= result["text_to_video"]["R@1"] <= 100
    assert jobs(repository, "all")["picture"] == 3
    overlay = overlay.replace("{p: 1}", "{q: 1}")
    (repository / "small.yaml").write_text(yaml.safe_dump(SMALL | yaml.safe_load(overlay)))
    assert f"{name} has no option 'q'; it has p" in snakemake(repository, "--dry-run", "all").stdout


def test_every_key_of_the_config_is_documented_and_up_to_date():
    pages = runpy.run_path(REPOSITORY / "docs/config_docs.py")["pages"]()
    for file, content in pages.items():
        assert file.read_text() == content, "run `make docs`"
    made = pages[REPOSITORY / "config/README.md"]
    documented = set(re.findall(r"`([\w-]+)`", made))
    for file in ("config.yaml", "demo.yaml"):
        config = yaml.safe_load((REPOSITORY / "config" / file).read_text())
        named = ("weights", "variants", "lists", "grids", "benchmarks")
        names = {name for block in named for name in config.get(block, {})}
        assert keys(config) - names - documented == set()
    assert all(cells[-2].strip() for cells in (line.split("|") for line in made.splitlines()) if len(cells) == 6)


def keys(node: object) -> set[str]:
    """Every key of every mapping in a config."""
    if isinstance(node, dict):
        return set(node).union(*map(keys, node.values()))
    return set().union(*map(keys, node)) if isinstance(node, list) else set()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings_that_exist(page):
    folder = (REPOSITORY / page).parent
    for path, heading in re.findall(r"\]\((?!http)([\w./-]*)(?:#([\w-]+))?\)", (REPOSITORY / page).read_text()):
        target = folder / path if path else REPOSITORY / page
        assert target.exists(), path
        if heading and target.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert heading in [re.sub(r"[^\w -]", "", found.lower()).replace(" ", "-") for found in headings]


def test_the_readme_is_read_in_one_sitting():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 120
