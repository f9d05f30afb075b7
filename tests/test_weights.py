"""Weights files: every usual layout gives the same model, and what cannot be right is one line."""

import argparse
import json
import math
import pickle
import sys
import tarfile
import zipfile
from functools import partial
from itertools import product
from random import Random
from unittest.mock import Mock

import open_clip
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import centerclip
from centerclip import backbones
from centerclip.backbones import weights
from centerclip.backbones.clip import CenterCLIP, build
from centerclip.backbones.pretrained import SOURCED
from centerclip.backbones.weights import activation, read_state, save_weights
from centerclip.cli import main
from centerclip.command import UserError
from centerclip.data.download import sources
from centerclip.method.stage import Model, Stage
from centerclip.method.state import SETTINGS, Settings


def load(backbone: str, path: object, seed: int = 0) -> CenterCLIP:
    """The model that starts from a weights file."""
    return build(Model(backbone, str(path)), seed)


@pytest.fixture(scope="module")
def tiny():
    return build(Model("tiny"), 0).eval()


@pytest.fixture
def state(tiny):
    return dict(tiny.state_dict())


@pytest.fixture
def small(monkeypatch):
    """Of the published backbones `tiny`'s size: quick and small to load."""
    config = backbones.model_config

    def shrunk(name, image_size=None):
        return backbones.TINY | {"quick_gelu": config(name).get("quick_gelu", False)}

    monkeypatch.setattr(backbones, "model_config", shrunk)


def write(state, path):
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)


def same(found, state) -> bool:
    return all(torch.equal(found[name], tensor) for name, tensor in state.items())


def refused(weights, backbone="tiny"):
    """The line that a weights file gets."""
    with pytest.raises(UserError) as error:
        load(backbone, weights)
    assert str(error.value).startswith(f"weights {weights}") and "\n" not in str(error.value)
    return str(error.value)


def hugging_face(state):
    """A tiny open_clip state dict by the names of Hugging Face's CLIPModel, written out by hand."""
    text, vision = "text_model.", "vision_model."
    pairs = {
        "logit_scale": "logit_scale",
        f"{text}embeddings.token_embedding.weight": "token_embedding.weight",
        f"{text}embeddings.position_embedding.weight": "positional_embedding",
        f"{vision}embeddings.class_embedding": "visual.class_embedding",
        f"{vision}embeddings.patch_embedding.weight": "visual.conv1.weight",
        f"{vision}embeddings.position_embedding.weight": "visual.positional_embedding",
    }
    theirs = {
        f"{text}embeddings.position_ids": torch.arange(77)[None],
        f"{vision}embeddings.position_ids": torch.arange(50)[None],
        "text_projection.weight": state["text_projection"].T.contiguous(),
        "visual_projection.weight": state["visual.proj"].T.contiguous(),
    }
    for end in ("weight", "bias"):
        pairs[f"{text}final_layer_norm.{end}"] = f"ln_final.{end}"
        pairs[f"{vision}pre_layrnorm.{end}"] = f"visual.ln_pre.{end}"
        pairs[f"{vision}post_layernorm.{end}"] = f"visual.ln_post.{end}"
        for tower, ours, layers in (text, "", 2), (vision, "visual.", 4):
            for layer in range(layers):
                to, of = f"{tower}encoder.layers.{layer}", f"{ours}transformer.resblocks.{layer}"
                for part, tensor in zip("qkv", state[f"{of}.attn.in_proj_{end}"].split(64), strict=True):
                    theirs[f"{to}.self_attn.{part}_proj.{end}"] = tensor.clone()
                pairs[f"{to}.self_attn.out_proj.{end}"] = f"{of}.attn.out_proj.{end}"
                pairs[f"{to}.layer_norm1.{end}"] = f"{of}.ln_1.{end}"
                pairs[f"{to}.layer_norm2.{end}"] = f"{of}.ln_2.{end}"
                pairs[f"{to}.mlp.fc1.{end}"] = f"{of}.mlp.c_fc.{end}"
                pairs[f"{to}.mlp.fc2.{end}"] = f"{of}.mlp.c_proj.{end}"
    return theirs | {name: state[ours] for name, ours in pairs.items()}


def prefixed(state, prefix):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


LAYOUTS = {
    "open_clip": lambda state: state,
    "hugging_face": hugging_face,
    "hugging_face in clip": lambda state: prefixed(hugging_face(state), "clip."),
    **{prefix: partial(prefixed, prefix=f"{prefix}.") for prefix in ("module", "clip", "_orig_mod", "module.clip")},
}
TRAININGS = {
    "open_clip's checkpoint": lambda state: {"epoch": 3, "name": "run", "state_dict": prefixed(state, "module.")},
    "lightning's checkpoint": lambda state: {"state_dict": prefixed(state, "clip."), "callbacks": {}, "loops": None},
}


class TestLayouts:
    @pytest.mark.parametrize(
        ("layout", "suffix"),
        [*product(LAYOUTS, [".safetensors", ".pt", ".bin"]), *product(TRAININGS, [".pt", ".ckpt"])],
    )
    def test_every_layout_gives_the_same_model(self, layout, suffix, state, tmp_path):
        write((LAYOUTS | TRAININGS)[layout](state), tmp_path / f"w{suffix}")
        loaded = load("tiny", tmp_path / f"w{suffix}", 1).state_dict()
        assert same(loaded, state)

    def test_hugging_faces_layer_computes_what_ours_does(self, tiny, state):
        """A text layer's attention by Hugging Face's separate projections, beside our model's."""
        theirs = hugging_face(state)
        x = torch.randn(1, 5, 64, generator=torch.Generator().manual_seed(0))
        at = "text_model.encoder.layers.0.self_attn."

        def linear(name, x):
            return x @ theirs[f"{at}{name}.weight"].T + theirs[f"{at}{name}.bias"]

        q, k, v = (linear(name, x).view(1, 5, 4, 16).transpose(1, 2) for name in ("q_proj", "k_proj", "v_proj"))
        attended = (q @ k.mT / math.sqrt(16)).softmax(-1) @ v
        by_hand = linear("out_proj", attended.transpose(1, 2).flatten(2))
        with torch.no_grad():
            ours = tiny.transformer.resblocks[0].attn(x, x, x, need_weights=False)[0]
        assert torch.allclose(by_hand, ours, atol=1e-5)

    def test_openais_torchscript_archive_becomes_safetensors(self, tmp_path, state):
        archive(state, tmp_path / "tiny.pt")
        save_weights(load("tiny", tmp_path / "tiny.pt").state_dict(), "tiny", tmp_path / "tiny.safetensors")
        converted = load_file(tmp_path / "tiny.safetensors")
        assert converted.keys() == state.keys()
        assert all(torch.equal(converted[name], tensor.half().float()) for name, tensor in state.items())


def test_saved_weights_are_read_by_whom_other_files_are_and_a_full_disk_is_one_line(tmp_path, monkeypatch):
    file, other = tmp_path / "w.safetensors", tmp_path / "other"
    save_weights({"x": torch.zeros(1)}, "tiny", file)
    other.touch()
    assert file.stat().st_mode == other.stat().st_mode
    with monkeypatch.context() as without_modes:
        without_modes.setattr("pathlib.Path.chmod", Mock(side_effect=PermissionError))
        save_weights({"x": torch.ones(1)}, "tiny", file)
    assert load_file(file)["x"] == 1

    def full(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(UserError, match=f"^{file}: cannot be written: .*No space left on device"):
        save_weights({"x": torch.zeros(1)}, "tiny", file)
    assert sorted(tmp_path.iterdir()) == [other, file]


@torch.no_grad()
@pytest.mark.parametrize("precision", [torch.float32, torch.float16])
@pytest.mark.parametrize("size", [40, 48, 56, 64])
def test_a_model_of_another_image_size_is_open_clips(size, precision, state, tmp_path, monkeypatch):
    """The positions of 7 x 7 patches become those of 5 x 5, 6 x 6 or 8 x 8; all other weights stay."""
    file = tmp_path / "w.safetensors"
    save_weights({name: tensor.to(precision) for name, tensor in state.items()}, "tiny", file)
    ours = build(Model("tiny", str(file)), 1, size).eval()
    own = {name: tensor.to(precision).float() for name, tensor in state.items()}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", backbones.TINY)
    theirs = open_clip.create_model("tiny", force_image_size=size).eval()
    open_clip.model.resize_pos_embed(own, theirs)
    theirs.load_state_dict(own)
    assert same(ours.state_dict(), own)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    expected = theirs.encode_image(images, normalize=True)
    assert torch.allclose(ours.encode_video(images[:, None]), expected, atol=1e-5)


def test_positions_of_a_grid_that_is_neither_the_backbones_nor_the_models_are_refused(state, tmp_path):
    write({**state, "visual.positional_embedding": torch.zeros(26, 64)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"positional_embedding is \[26, 64\] where tiny has \[37, 64\]$"):
        build(Model("tiny", str(tmp_path / "w.safetensors")), 0, 48)


def test_what_a_stage_learns_may_be_missing(state, tmp_path):
    write(state, tmp_path / "w.pt")
    stage = Stage("kmedoids", block=2, segments=2, clusters=9, embedding=True)
    model = build(Model("tiny", str(tmp_path / "w.pt"), (stage,)), 1)
    embedding = model.stages["2"].embedding
    assert torch.equal(model.visual.proj, state["visual.proj"])
    assert torch.equal(embedding, state["visual.positional_embedding"][1:10])
    write(state | {"stages.2.embedding": 2 * embedding.detach()}, tmp_path / "learned.pt")
    learned = build(Model("tiny", str(tmp_path / "learned.pt"), (stage,)), 1)
    assert torch.equal(learned.stages["2"].embedding, 2 * embedding)


class Part(torch.nn.Module):
    def forward(self, x):
        return x


def archive(state, path):
    """A TorchScript file as OpenAI's: half precision, and three integer attributes besides the weights."""
    whole = Part()
    for name, tensor in state.items():
        *parents, last = name.split(".")
        part = whole
        for parent in parents:
            if not hasattr(part, parent):
                part.add_module(parent, Part())
            part = getattr(part, parent)
        part.register_parameter(last, torch.nn.Parameter(tensor.half()))
    for name in ("input_resolution", "context_length", "vocab_size"):
        whole.register_buffer(name, torch.tensor(7))
    torch.jit.script(whole).save(path)


class Hostile(torch.nn.Module):
    """A module whose archive, when it is loaded by torch.jit, fills a file with zeros."""

    def __init__(self, path: str):
        super().__init__()
        self.path, self.mapped = path, torch.zeros(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path, self.training = state
        self.mapped = torch.from_file(self.path, True, 4).fill_(0.0)


class TestNothingOfAFileIsRun:
    def test_an_archive_that_writes_when_it_is_loaded(self, tmp_path):
        precious = tmp_path / "precious"
        precious.write_bytes(b"sixteen bytes...")
        path = tmp_path / "w.pt"
        torch.jit.script(Hostile(str(precious))).save(path)
        assert "packs tensors by code of its own, which is not run: where you trust" in refused(path)
        assert precious.read_bytes() == b"sixteen bytes..."
        torch.jit.load(path)
        assert precious.read_bytes() == bytes(16)  # it does write

    @pytest.mark.parametrize("kind", ["archive", "torch.save"])
    def test_a_pickle_that_calls(self, kind, tmp_path):
        class Call:
            def __reduce__(self):
                return (exec, (f"open({str(tmp_path / 'written')!r}, 'w')",))

        path = tmp_path / "w.pt"
        if kind == "archive":
            with zipfile.ZipFile(path, "w") as file:
                file.writestr("w/constants.pkl", b"")
                file.writestr("w/data.pkl", pickle.dumps(Call(), protocol=2))
            assert "it names '__builtin__.exec', and nothing of an archive is run" in refused(path)
        else:
            torch.save(Call(), path)
            line = refused(path)
            assert "besides tensors, which are not loaded: save the state dict alone" in line
            assert "weights_only" not in line
        assert not (tmp_path / "written").exists()

    def test_a_tar_of_old_pytorch(self, tmp_path):
        with tarfile.open(tmp_path / "w.pt", "w") as file:
            for name in ("storages", "tensors", "pickle"):
                file.addfile(tarfile.TarInfo(name))
        assert "a format that may run code: where you trust the file, " in refused(tmp_path / "w.pt")

    @pytest.mark.parametrize("count", [2, 200])
    def test_a_tensor_beyond_its_storage(self, count, tmp_path):
        path = tmp_path / "w.pt"
        archive({"x": torch.zeros(4)}, path)
        with zipfile.ZipFile(path) as file:
            records = {name: file.read(name) for name in file.namelist()}
        with zipfile.ZipFile(path, "w") as file:
            for name, content in records.items():
                file.writestr(name, content * count if name.endswith("data/0") else content)
        assert "data/0 has " in refused(path)

    @pytest.mark.parametrize("suffix", [".pt", ".safetensors", " of TorchScript.pt"])
    def test_damaged_bytes_are_a_line_or_change_nothing_but_numbers(self, suffix, tmp_path):
        path, state = tmp_path / f"w{suffix}", {"visual.x": torch.arange(6.0).view(2, 3), "logit_scale": torch.ones(())}
        archive(state, path) if "Script" in suffix else write(state, path)
        whole, random = path.read_bytes(), Random(0)
        for _ in range(100):
            content = bytearray(whole)
            for _ in range(random.choice([1, 8, 64])):
                content[random.randrange(len(content))] = random.randrange(256)
            path.write_bytes(content[: random.choice([len(content), random.randrange(len(content))])])
            try:
                read = read_state(path)
            except UserError as error:
                assert str(error).startswith(f"weights {path}: ") and "\n" not in str(error)
            else:
                assert all(isinstance(tensor, torch.Tensor) for tensor in read.values())


class TestReduced:
    """Weights of a model of centerclip.reduce are not taken for those of the model without its stages."""

    @pytest.fixture(scope="class")
    def reduced(self):
        clip = build(Model("tiny"), 0)
        return centerclip.reduce(clip, "kmedoids", segments=2, clusters=9, block=2, frames=6)

    @pytest.mark.parametrize("wrapper", ["", "module.", "_orig_mod.", "module._orig_mod."])
    @pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
    def test_only_a_model_of_the_same_stage_takes_them(self, wrapper, suffix, reduced, state, tmp_path):
        path = tmp_path / f"w{suffix}"
        write(prefixed({name: tensor.clone() for name, tensor in reduced.state_dict().items()}, wrapper), path)
        line = refused(path)
        assert "of a model of centerclip.reduce, by kmedoids after block 2 (--stage 2 2 9), and here tokens are" in line
        model = build(Model("tiny", str(path), reduced.settings.stages), 1)
        assert same(model.state_dict(), state)

    @pytest.mark.parametrize("change", [torch.Tensor.half, torch.Tensor.bfloat16, lambda codes: codes * (1 + 1e-6)])
    def test_settings_survive_what_is_done_to_parameters(self, change, reduced):
        assert Settings.of_tensor(change(reduced.state_dict()[SETTINGS])) == reduced.settings

    def test_settings_that_are_damaged(self, reduced, tmp_path):
        torch.save(reduced.state_dict() | {SETTINGS: torch.zeros(9)}, tmp_path / "w.pt")
        assert refused(tmp_path / "w.pt").endswith("the settings of its reduction are damaged")


class TestActivation:
    """Each way in which weights tell it, with the backbone of their activation and the one of the other."""

    @pytest.mark.parametrize("quick", [True, False])
    @pytest.mark.parametrize("way", ["written here", "config.json", "config.json of a tower", "open_clip_config.json"])
    def test_weights_that_tell(self, way, quick, state, tmp_path, small, capsys):
        path = tmp_path / "w.safetensors"
        right, wrong = ("ViT-B-32", "ViT-B-32-gelu") if quick else ("ViT-B-32-gelu", "ViT-B-32")
        if way == "written here":
            save_weights(state, right, path)
        else:
            save_file(state, path)
            hidden = {"hidden_act": "quick_gelu" if quick else "gelu"}
            beside = {
                "config.json": {"vision_config": hidden},
                "config.json of a tower": hidden,
                "open_clip_config.json": {"model_cfg": {"quick_gelu": True} if quick else {}},
            }[way]
            (tmp_path / way.split()[0]).write_text(json.dumps(beside))
        load(right, path)
        assert capsys.readouterr().err == ""
        assert refused(path, wrong).endswith(f": name the backbone {right}")

    @pytest.mark.parametrize(
        ("wrong", "line"),
        [
            ("ViT-B-16-gelu", "quick_gelu, where ViT-B-16-gelu has gelu: name the backbone ViT-B-16"),
            ("ViT-B-32-256", "quick_gelu, where ViT-B-32-256 has gelu"),  # which no backbone has with quick_gelu
        ],
    )
    def test_openais_archive_tells(self, wrong, line, state, tmp_path, small, capsys):
        archive(state, tmp_path / "w.pt")
        load("ViT-B-16", tmp_path / "w.pt")
        assert capsys.readouterr().err == ""
        assert refused(tmp_path / "w.pt", wrong).endswith(f"trained with {line}")

    def test_an_activation_that_no_backbone_has(self, state, tmp_path, small):
        save_file(state, tmp_path / "w.safetensors")
        (tmp_path / "config.json").write_text(json.dumps({"hidden_act": "relu"}))
        assert refused(tmp_path / "w.safetensors", "ViT-B-32").endswith("with relu, where ViT-B-32 has quick_gelu")

    @pytest.mark.parametrize(("backbone", "other"), [("ViT-B-32", "ViT-B-32-gelu"), ("ViT-B-16-gelu", "ViT-B-16")])
    @pytest.mark.parametrize("beside", ["", "[]", '{"vision_config": null}', "not json"])
    def test_weights_that_do_not_tell_get_a_line(self, backbone, other, beside, state, tmp_path, small, capsys):
        save_file(state, tmp_path / "w.safetensors")
        (tmp_path / "config.json").write_text(beside)
        load(backbone, tmp_path / "w.safetensors")
        (line,) = capsys.readouterr().err.splitlines()
        assert str(tmp_path / "w.safetensors") in line and line.endswith(f"name the backbone {other}")

    def test_the_tiny_backbone_has_one_activation_and_no_line(self, state, tmp_path, capsys):
        torch.save(state, tmp_path / "w.pt")
        load("tiny", tmp_path / "w.pt")
        assert capsys.readouterr().err == ""


class TestMistakes:
    @pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
    @pytest.mark.parametrize(
        ("name", "tensor", "line"),
        [
            ("visual.proj", torch.zeros(3, 3), "visual.proj is [3, 3] where tiny has [64, 64]"),
            ("more", torch.zeros(1), "not those of tiny: the file has 'more' besides"),
            ("logit_scale", None, "not those of tiny: the file lacks 'logit_scale'"),
            ("visual.proj", None, "not those of tiny: the file lacks 'visual.proj'"),
        ],
    )
    def test_another_models(self, name, tensor, line, suffix, state, tmp_path):
        changed = {key: value for key, value in (state | {name: tensor}).items() if value is not None}
        write(changed, tmp_path / f"w{suffix}")
        assert refused(tmp_path / f"w{suffix}").endswith(line)

    def test_a_layer_of_hugging_faces_that_is_not_whole(self, state, tmp_path):
        theirs = hugging_face(state)
        del theirs["text_model.encoder.layers.0.self_attn.k_proj.bias"]
        torch.save(theirs, tmp_path / "w.bin")
        assert "transformer.resblocks.0.attn.in_proj_bias is [128] where tiny has [192]" in refused(tmp_path / "w.bin")

    @pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
    def test_numbers_that_are_not_finite(self, number, state, tmp_path):
        state["ln_final.bias"] = torch.tensor([0.0] * 63 + [number])
        torch.save(state, tmp_path / "w.pt")
        assert refused(tmp_path / "w.pt").endswith("ln_final.bias has numbers that are not finite")

    @pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
    @pytest.mark.parametrize(
        ("content", "line"),
        [
            (b"", "an empty file"),
            (b"404: not found\n", "not a whole weights file"),
            (b"\n<!DOCTYPE html>\n<html>", "an HTML page"),
            (b"<html lang='en'>", "an HTML page"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a Git LFS pointer"),
        ],
    )
    def test_files_that_are_no_weights(self, content, line, suffix, tmp_path):
        (tmp_path / f"w{suffix}").write_bytes(content)
        assert f"w{suffix}: {line}" in refused(tmp_path / f"w{suffix}")

    def test_what_is_no_state_dict(self, state, tmp_path):
        path = tmp_path / "w.pt"
        save_file(state, path)
        assert refused(path).endswith("a safetensors file: name it w.safetensors")
        torch.save(list(state.values()), path)
        assert refused(path).endswith("not a state dict of tensors: torch.save the state dict alone")

    def test_no_such_file(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert refused("w.pt") == f"weights w.pt (in {tmp_path}): no such file"
        assert refused("/w.pt") == "weights /w.pt: no such file"
        assert refused(tmp_path) == f"weights {tmp_path}: a folder: name the file in it"


@pytest.fixture
def downloads(state, tmp_path, monkeypatch, small):
    """A file in place of every download of open_clip's, and what was asked for: settings of tags, or a repository and
    a file in it. `config` is the open_clip_config.json of all repositories."""
    save_file(state, tmp_path / "downloaded.safetensors")
    mean = {"mean": open_clip.OPENAI_DATASET_MEAN}
    config = {"model_cfg": backbones.model_config("ViT-L-14"), "preprocess_cfg": mean}
    made = argparse.Namespace(asked=[], config=config, weights=tmp_path / "downloaded.safetensors")

    def of_tag(settings):
        made.asked.append(settings["hf_hub"])
        return str(made.weights)

    def of_repository(repository, filename=None):
        made.asked.append((repository, filename))
        if filename is None:
            return str(made.weights)
        (tmp_path / filename).write_text(json.dumps(made.config))
        return str(tmp_path / filename)

    monkeypatch.setattr(open_clip.pretrained, "download_pretrained", of_tag)
    monkeypatch.setattr(open_clip.pretrained, "download_pretrained_from_hf", of_repository)
    return made


HUB = "hf-hub:org/name"


class TestPublished:
    @pytest.mark.parametrize(
        ("backbone", "weights", "asked"),
        [
            ("ViT-B-32", "openai", ["timm/vit_base_patch32_clip_224.openai/"]),
            ("ViT-L-14-quickgelu", "openai", ["timm/vit_large_patch14_clip_224.openai/"]),
            ("ViT-B-32-gelu", "laion2b_s34b_b79k", ["laion/CLIP-ViT-B-32-laion2B-s34B-b79K/"]),
            ("ViT-L-14", "datacomp_xl_s13b_b90k", ["laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K/"]),
            ("ViT-L-14", HUB, [("org/name", "open_clip_config.json"), ("org/name", None)]),
        ],
    )
    def test_they_are_open_clips_download(self, backbone, weights, asked, downloads, state, capsys):
        loaded = load(backbone, weights, 1).state_dict()
        assert downloads.asked == asked and capsys.readouterr().err == ""
        assert same(loaded, state)

    @pytest.mark.parametrize(
        ("backbone", "weights", "line"),
        [
            ("tiny", "openai", "no weights of tiny are published"),
            ("ViT-B-32-gelu", "openai", "with quick_gelu, where ViT-B-32-gelu has gelu: name the backbone ViT-B-32"),
            ("ViT-L-14", "openai", "where ViT-L-14 has gelu: name the backbone ViT-L-14-quickgelu"),
            ("ViT-L-14", "metaclip_400m", "where ViT-L-14 has gelu: name the backbone ViT-L-14-quickgelu"),
            ("ViT-L-14-quickgelu", "laion400m_e32", "has quick_gelu: name the backbone ViT-L-14"),
            ("ViT-H-14-quickgelu", "openai", "no weights 'openai' of ViT-H-14-quickgelu, but metaclip_fullcc, dfn5b;"),
            ("ViT-L-14", "hf-hub:name", "'hf-hub:name' is not hf-hub:ORG/NAME"),
        ],
    )
    def test_those_that_do_not_fit_are_not_downloaded(self, backbone, weights, line, downloads):
        assert line in refused(weights, backbone) and downloads.asked == []

    @pytest.mark.parametrize(
        ("config", "line"),
        [
            ({"quick_gelu": True}, "with quick_gelu, where ViT-L-14 has gelu: name the backbone ViT-L-14-quick"),
            ({"vision_cfg": {"head_width": 32}}, "vision_cfg.head_width is 32 where ViT-"),
            ({"text_cfg": {"hf_tokenizer_name": "t5"}}, "text_cfg.hf_tokenizer_name is 't5'"),
            ({"vision_cfg": {"new": 1}}, "vision_cfg.new is 1 where ViT-L-14 has None"),
            ({"vision_cfg": 1}, "its open_clip_config.json does not describe a model of open_clip's"),
        ],
    )
    def test_another_model_in_a_repository(self, config, line, downloads):
        changed = {
            key: backbones.TINY[key] | value if isinstance(value, dict) else value for key, value in config.items()
        }
        downloads.config["model_cfg"] = downloads.config["model_cfg"] | changed
        assert line in refused(HUB, "ViT-L-14") and downloads.asked == [("org/name", "open_clip_config.json")]

    def test_other_images_of_a_repository(self, downloads):
        downloads.config["preprocess_cfg"] = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
        assert "its images have mean (0.5, 0.5, 0.5) where frames have (0.4814" in refused(HUB, "ViT-L-14")

    def test_a_download_that_fails(self, downloads, monkeypatch):
        lost = Mock(side_effect=RuntimeError("Failed to download\nlonger story"))
        monkeypatch.setattr(open_clip.pretrained, "download_pretrained", lost)
        line = refused("datacomp_xl_s13b_b90k", "ViT-L-14")
        assert "open_clip cannot get them (Failed to download); name a local file" in line


class TestCommand:
    def run(self, monkeypatch, out, backbone, weights):
        arguments = ["--backbone", backbone, "--weights", weights, "--downloads", out.parent / "clip", "--out", out]
        monkeypatch.setattr(sys, "argv", ["centerclip", "weights", *map(str, arguments)])
        main()

    def test_published_weights_become_safetensors_that_tell_their_activation(
        self, downloads, state, tmp_path, monkeypatch
    ):
        out = tmp_path / "out.safetensors"
        self.run(monkeypatch, out, "ViT-L-14", "datacomp_xl_s13b_b90k")
        assert same(load_file(out), state)
        assert activation(out) == "gelu"

    def test_whole_or_not_at_all(self, downloads, tmp_path, mistake):
        out = tmp_path / "out/w.safetensors"
        save_file({"x": torch.zeros(1)}, downloads.weights)
        words = ["--backbone", "ViT-L-14", "--weights", HUB, "--downloads", tmp_path / "clip", "--out", out]
        line = mistake(main, "weights", *words)
        assert line.startswith(f"error: weights {HUB}: not those of ViT-L-14: the file lacks ")
        assert not out.parent.exists()

    @pytest.mark.parametrize("backbone", SOURCED)
    def test_openais_come_by_the_table_of_sources(self, backbone, downloads, state, tmp_path, monkeypatch):
        source = sources.read_table()["clip"][f"{backbone}.pt"]
        assert all(text.startswith("sha256:") for text in source.hashes) and source.hashes[0][7:] in source.urls[0]

        def download(path, urls, *_):
            assert urls == source.urls
            path.parent.mkdir()
            archive(state, path)

        monkeypatch.setattr(sources, "download", download)
        self.run(monkeypatch, tmp_path / "out.safetensors", backbone, "openai")
        assert downloads.asked == [] and activation(tmp_path / "out.safetensors") == "quick_gelu"

    def test_null_is_random(self, tmp_path, monkeypatch):
        self.run(monkeypatch, tmp_path / "out.safetensors", "tiny", "null")
        assert same(build(Model("tiny"), 0).state_dict(), load("tiny", tmp_path / "out.safetensors").state_dict())

    def test_a_backbone_that_there_is_not(self, mistake):
        line = mistake(main, "weights", "--backbone", "RN50", "--weights", "openai", status=2)
        assert "argument --backbone: RN50 does not work here, as its video side is a ResNet; try" in line
