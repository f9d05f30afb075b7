"""README.md and the pages of docs/: commands can be typed, links lead somewhere, generated pages are current."""

import argparse
import ast
import importlib
import json
import re
import runpy
import shlex
import subprocess
import sys

import pytest
import torch
import yaml
from conftest import REPOSITORY
from safetensors.torch import save_file
from snakemake.cli import get_argument_parser
from support.cells import STAGE, tiny_cell
from support.videos import make_video
from support.workflow import ENVIRONMENT, SMALL, SNAKEMAKE, copy_repository, jobs, snakemake
from test_messages import RIDDLE

import centerclip
from centerclip.backbones.clip import build
from centerclip.cli import parsed
from centerclip.settings import layout
from centerclip.settings.config import read_config

PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{file.name}" for file in sorted(REPOSITORY.glob("docs/*.md")))]
PROGRAMS = {"centerclip", "python", "snakemake", "make", "pytest", "torchrun", "srun"}
LINK = r'(?:\]\(|<img src=")(?!http)([\w./-]*)(?:#([\w-]+))?[")]'
FOLDERS = "centerclip/", "config/", "docs/", "profiles/", "tests/", "workflow/"


def commands(page: str) -> list[list[str]]:
    """The words of each command in a page's blocks of code: indented, or fenced as bash."""
    text = (REPOSITORY / page).read_text().replace("\\\n", " ")
    bash = "".join(fenced(page, "bash")).splitlines()
    lines = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE).splitlines()
    typed = [*bash, *(line.removeprefix("    ") for line in lines if line.startswith("    "))]
    typed = [re.sub(r"^([A-Z_]+=\S+ )+", "", line) for line in typed if "<<" not in line]
    return [shlex.split(line, comments=True) for line in typed if line.split()[:1] and line.split()[0] in PROGRAMS]


def fenced(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (REPOSITORY / page).read_text(), re.DOTALL | re.MULTILINE)


COMMANDS = [words for page in PAGES for words in commands(page)]


def parsed_command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse a command's arguments as the command does. An unknown one exits."""
    program, *arguments = words
    if program == "make":
        targets = re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in arguments if word not in ("&&", "make")} <= set(targets)
    elif program == "snakemake":
        get_argument_parser().parse_args(arguments)
    elif "centerclip" in words:
        monkeypatch.setattr(sys, "argv", words[words.index("centerclip") :])
        parsed()
    elif arguments[:1] == ["-m"] and arguments[1].startswith("centerclip.bench"):
        monkeypatch.setattr(sys, "argv", arguments[1:])
        module = importlib.import_module(arguments[1])
        monkeypatch.setattr(module, "run", lambda parser, job: parser.parse_args())
        module.main()


@pytest.mark.parametrize("words", COMMANDS, ids=shlex.join)
def test_each_command_of_a_page_can_be_typed(words, monkeypatch):
    parsed_command(words, monkeypatch)
    for word in words:
        if word.startswith(FOLDERS):
            assert (REPOSITORY / word.partition("::")[0]).exists(), word


def test_unknown_options_of_a_page_are_found(monkeypatch):
    for line in ("centerclip plan --gpu 4", "snakemake --core", "python -m centerclip.bench.recall --size 3"):
        with pytest.raises(SystemExit):
            parsed_command(line.split(), monkeypatch)


def given(words: list[str]) -> argparse.Namespace:
    return get_argument_parser().parse_args(words[1:])


@pytest.mark.slow
@pytest.mark.parametrize("config", [(), ("config/demo.yaml",), ("config/first.yaml",)], ids=str)
def test_snakemake_makes_each_target_of_a_page(config, tmp_path):
    """A dry run of all targets that the pages name under a config."""
    typed = [given(words) for words in COMMANDS if words[0] == "snakemake"]
    same = [one for one in typed if tuple(map(str, one.configfile or ())) == config and not one.config]
    targets = {target for one in same for target in one.targets} - {"results/BENCHMARK/VARIANT/weights.safetensors"}
    assert targets
    options = f"--dry-run --quiet all --directory {tmp_path}".split() + ["--configfile", *config] * bool(config)
    command = [*SNAKEMAKE, *options, "--", *sorted(targets)]
    done = subprocess.run(command, cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_values_behind_config_are_those_of_the_config(tmp_path):
    for words in COMMANDS:
        if words[0] == "snakemake" and (values := given(words).config):
            (tmp_path / "typed.yaml").write_text("\n".join(value.replace("=", ": ", 1) for value in values))
            read_config([tmp_path / "typed.yaml"])


@pytest.mark.parametrize("page", PAGES)
def test_yaml_of_a_page_is_a_config(page, tmp_path):
    """Alone, or as the block of a benchmark. `norm` takes the place of an algorithm that a page defines."""
    demo = [REPOSITORY / "config/demo.yaml"] * ("config/demo.yaml mine.yaml" in (REPOSITORY / page).read_text())
    for text in fenced(page, "yaml"):
        content = yaml.safe_load(text.replace("algorithm: longest, options: {p: 1}", "algorithm: norm"))
        content = {"benchmarks": {"vatex": content}} if "source" in content else content
        (tmp_path / "page.yaml").write_text(yaml.safe_dump(content))
        read_config([*demo, tmp_path / "page.yaml"])


@pytest.mark.parametrize("page", PAGES)
def test_python_of_a_page_imports_what_there_is(page):
    for text in fenced(page, "python"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                for name in node.names:
                    importlib.import_module(name.name)
            elif isinstance(node, ast.ImportFrom):
                assert all(hasattr(importlib.import_module(node.module), name.name) for name in node.names)


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_a_page_begins_with_what_to_type(page):
    text = re.sub(r"\A(?:#+ .*\n+)+", "", (REPOSITORY / page).read_text())
    assert text.startswith(("    ", "```"))
    assert not re.search(r"^- .*\n(?:  .*\n)*\n    \S", text, re.MULTILINE), "a block of code in a list"


def test_symptoms_of_troubleshooting_are_messages_of_the_code():
    """Each part of a quoted symptom, between its `...`, is in the source."""
    sources = [*REPOSITORY.glob("centerclip/**/*.py"), *REPOSITORY.glob("workflow/**/*.smk")]
    source = re.sub(r'"\s*\n\s*f?"', "", "".join(file.read_text() for file in sources))
    rows = re.findall(r"^\| (`[^`]+`) \|", (REPOSITORY / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    parts = [part.strip() for row in rows for part in row.strip("`").split("...")]
    assert len(rows) > 20 and [part for part in parts if part not in source] == []


def test_each_page_is_in_the_sites_navigation():
    site = yaml.safe_load((REPOSITORY / "docs/site/mkdocs.yml").read_text())
    entries = [entry for section in site["nav"] for pages in section.values() for entry in pages]
    here = {file.name for file in REPOSITORY.glob("docs/*.md")}
    outside = {"index.md", "settings.md", "contributing.md"}
    assert {page for entry in entries for page in entry.values()} == here | outside


def test_pages_have_no_riddles():
    """The rules of CONTRIBUTING.md, as far as a test can tell."""
    for page in PAGES:
        assert re.findall(rf"\b(?:{RIDDLE})\b", (REPOSITORY / page).read_text()) == [], page


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
    got = centerclip.reduce(names["model"], "kmedoids", segments=1, frames=1).encode_video(frame[None])
    assert torch.allclose(got, expected, atol=1e-6)


def test_the_python_example(tmp_path, monkeypatch):
    """On a cell of the tiny model and two generated videos; similarities by hand from the model itself."""
    example = snippet("docs/search.md", "In Python", "python")
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
    ids = names["retriever"].texts.ids(["a small cyan cross vanishes"])
    with torch.no_grad():
        assert torch.allclose(names["sentences"][1], model.encode_text(ids)[0].cpu(), atol=1e-5)
    assert torch.allclose(names["videos"].norm(dim=1), torch.ones(2))
    by_hand = sum(x * y for x, y in zip(*(names[k][0].tolist() for k in ("sentences", "videos")), strict=True))
    assert names["similarity"][0, 0].item() == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.slow
def test_adding_an_algorithm(tmp_path):
    """The documented file and config, in a copy of the repository, through the real workflow."""
    code, overlay = (snippet("docs/add-algorithm.md", "An algorithm", language) for language in ("python", "yaml"))
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
    rows = [cells for line in made.splitlines() if len(cells := line.split(" | ")) == 4]
    assert len(rows) > 100 and all(text.strip("| ") for *_, text in rows)
    for _, _, default, _ in rows[1:]:
        value = yaml.safe_load(default.strip("` "))
        assert not isinstance(value, str) or '"' in default or default == "default", default  # YAML reads what it shows


def keys(node: object) -> set[str]:
    """Every key of every mapping in a config."""
    if isinstance(node, dict):
        return set(node).union(*map(keys, node.values()))
    return set().union(*map(keys, node)) if isinstance(node, list) else set()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings_that_exist(page):
    folder = (REPOSITORY / page).parent
    for path, heading in re.findall(LINK, (REPOSITORY / page).read_text()):
        target = folder / path if path else REPOSITORY / page
        assert target.exists(), path
        if heading and target.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert heading in [re.sub(r"[^\w -]", "", found.lower()).replace(" ", "-") for found in headings]


def test_the_readme_is_read_in_one_sitting():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 120
