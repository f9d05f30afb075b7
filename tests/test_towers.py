"""timm's towers as the method sees them, against timm's own code and loops."""

import math
import re
import sys
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from unittest import mock

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from support.cells import tiny_cell
from support.families import FAMILIES, TEXT, ViT, as_backbone, clip
from timm.layers import apply_rot_embed_cat
from timm.models.eva import EvaBlockPostNorm
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

import centerclip
from centerclip import backbones
from centerclip.backbones import OTHER_NAMES
from centerclip.backbones.clip import build, freeze
from centerclip.backbones.pretrained import images
from centerclip.backbones.texts import Texts
from centerclip.backbones.weights import save_weights
from centerclip.command import UserError
from centerclip.data.video.batches import normalise
from centerclip.data.video.extraction import squared
from centerclip.method.reduced import ReducedCLIP, held_geometry
from centerclip.method.reduction.kmedoids import kmedoids
from centerclip.method.reduction.rlt import rlt
from centerclip.method.reduction.tome import tome
from centerclip.method.stage import Model, Stage
from centerclip.method.towers import tower_of
from centerclip.method.towers.tower import class_attention
from centerclip.method.towers.trunk import is_plain
from centerclip.search.models import cell_of_weights
from centerclip.search.retriever import Retriever
from centerclip.settings.cell import Data
from centerclip.train.finished import build_trained

TURNING = ["EVA-02", "PE-Core", "PE-Core-bigG"]
TURNING_WITH_CLASS = TURNING[:2]


def rotations(trunk: nn.Module, patches: Tensor) -> dict:
    """What a block of the trunk takes beside tokens: the rotations of some patches of a frame, by their numbers."""
    rope = getattr(trunk, "rope", None)
    return {} if rope is None else {"rope": rope.get_embed()[patches][None, None]}


def embedded(trunk: nn.Module, frames: Tensor) -> Tensor:
    x = trunk._pos_embed(trunk.patch_embed(frames))
    return trunk.norm_pre(x[0] if isinstance(x, tuple) else x)


def pooled(visual: nn.Module, x: Tensor) -> Tensor:
    """The unit vector of a sequence's tokens [N, D] by the trunk's own head."""
    return normalize(visual.head(visual.trunk.forward_head(visual.trunk.norm(x[None]))), dim=-1)[0]


def alone(visual: nn.Module, token: Tensor) -> Tensor:
    """The unit vector of one token [D] by the head of the trunk's pool."""
    trunk, x = visual.trunk, visual.trunk.norm(token[None])
    x = trunk.attn_pool(x[None]) if trunk.global_pool == "map" else x
    return normalize(visual.head(trunk.head(trunk.fc_norm(x))), dim=-1)[0]


@pytest.fixture(scope="module")
def video() -> Tensor:
    return torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("family", FAMILIES)
class TestFamily:
    def test_every_block_and_the_pool_are_the_trunks_own(self, family, video):
        visual, own = clip(family).visual, []
        for block in visual.trunk.blocks:
            block.register_forward_hook(lambda _, __, output: own.append(output))
        expected, tower = visual(video[0]), tower_of(visual)
        x, places = tower.embed(video[0]), tower.places(4)
        for block, output in zip(tower.blocks, own, strict=True):
            x = tower.run(block, x, places)
            assert torch.allclose(x, output, atol=1e-6, rtol=1e-6)
        assert torch.allclose(tower.pool(x, tower.classes), expected, atol=1e-6, rtol=1e-6)

    def test_without_a_stage_a_video_is_the_mean_of_its_frames(self, family, video):
        held = clip(family)
        frames = held.encode_image(video.flatten(0, 1), normalize=True).view(2, 4, -1)
        got = ReducedCLIP(held, (), False).encode_video(video)
        assert torch.allclose(got, normalize(frames.mean(1), dim=-1), atol=1e-6)

    def test_kmedoids_is_the_loop_over_segments_with_the_trunks_own_blocks(self, family, video):
        held = clip(family)
        trunk, classes = held.visual.trunk, held.visual.trunk.num_prefix_tokens
        reduced = centerclip.reduce(held, "kmedoids", segments=2, clusters=7, block=1, frames=4)
        got = reduced.encode_video(video)
        segments, medoids = (reduced.encode_video(video, vectors=several)[0] for several in ("segments", "medoids"))
        for vector, of_segments, of_medoids, frames in zip(got, segments, medoids, video, strict=True):
            vectors, tokens = [], []
            for segment in frames.unflatten(0, (2, 2)):
                x = trunk.blocks[0](embedded(trunk, segment), **rotations(trunk, torch.arange(16)))
                patches = x[:, classes:].flatten(0, 1)
                kept = kmedoids(patches[None], 7)[0][0]
                x = torch.cat([x[:, :classes].mean(0), patches[kept]])[None]
                for block in trunk.blocks[1:]:
                    x = block(x, **rotations(trunk, kept % 16))
                vectors.append(pooled(held.visual, x[0]))
                tokens += [alone(held.visual, token) for token in x[0, classes:]]
            assert torch.allclose(vector, normalize(torch.stack(vectors).mean(0), dim=-1), atol=1e-5)
            assert torch.allclose(of_segments, torch.stack(vectors), atol=1e-5)
            assert torch.allclose(of_medoids, torch.stack(tokens), atol=1e-5)

    def test_tome_is_the_loop_over_frames_with_the_trunks_own_attention(self, family, video):
        """Tokens are compared by their keys without rotation; attention adds the logarithms of their sizes."""
        held = clip(family)
        trunk, classes = held.visual.trunk, held.visual.trunk.num_prefix_tokens
        got, vectors = centerclip.reduce(held, "tome", remove=3, frames=4).encode_video(video), []
        for frame in video[0]:
            x, sizes, patches = embedded(trunk, frame[None])[0], torch.ones(classes + 16), torch.arange(16)
            for block in trunk.blocks:
                attn, post = block.attn, isinstance(block, EvaBlockPostNorm)
                seen = x if post else block.norm1(x)
                weight = attn.qkv.weight[32:64] if attn.qkv is not None else attn.k_proj.weight
                bias = attn.qkv.bias[32:64] if attn.qkv is not None and attn.qkv.bias is not None else torch.zeros(32)
                keys = linear(seen, weight.view(2, 16, 32).mean(0), bias.view(2, 16).mean(0))
                added = attn(seen[None], **rotations(trunk, patches), attn_mask=sizes.log()[None, None, None])[0]
                scales = [getattr(block, name, None) for name in ("ls1", "ls2")]
                if post:
                    scales = [block.norm1, block.norm2]
                elif getattr(block, "gamma_1", None) is not None:
                    scales = [partial(torch.mul, block.gamma_1), partial(torch.mul, block.gamma_2)]
                x = x + (scales[0](added) if scales[0] else added)
                (kept,), (cluster,) = tome(keys[None, classes:], len(keys) - classes - 3, classes=classes)
                rows = [classes + (cluster == k).nonzero()[:, 0] for k in range(len(kept))]
                merged = [(sizes[row, None] * x[row]).sum(0) / sizes[row].sum() for row in rows]
                x = torch.cat([x[:classes], torch.stack(merged)])
                sizes = torch.cat([sizes[:classes], torch.stack([sizes[row].sum() for row in rows])])
                patches = patches[kept]
                added = block.mlp(x if post else block.norm2(x))
                x = x + (scales[1](added) if scales[1] else added)
            repeated = torch.cat([x[:classes], x[classes:].repeat_interleave(sizes[classes:].long(), 0)])
            vectors.append(pooled(held.visual, repeated))
        assert torch.allclose(got[0], normalize(torch.stack(vectors).mean(0), dim=-1), atol=1e-5)

    def test_every_method_of_the_bench_gives_a_vector_or_one_line(self, family, video):
        held, refused = clip(family), {}
        methods = {name: {} for name in ("tome", "pitome", "tempme", "evit", "rlt")}
        methods |= {name: {"segments": 2, "block": 1} for name in (
            "kmedoids", "spectral", "pooling", "sparse_sampling", "dpc_knn", "hpool", "random_tokens", "first_tokens",
            "norm")}  # fmt: skip
        methods["tempme"] = {"joins": [2]}
        for method, options in methods.items():
            try:
                vectors = centerclip.reduce(held, method, frames=4, **options).encode_video(video)
                assert torch.allclose(vectors.norm(dim=-1), torch.ones(2), atol=1e-5), method
            except UserError as error:
                refused[method] = str(error)
        expected = {
            "SigLIP": ["evit", "rlt"],
            "ViTamin": ["evit", "rlt"],
            "PE-Core": ["rlt", "tempme"],
            "PE-Core-bigG": ["evit", "rlt"],
        }
        assert sorted(refused) == expected.get(family, [])
        assert all("\n" not in line and "the model" in line for line in refused.values())


def test_a_saved_model_is_read_into_one_like_it(video, tmp_path):
    saved = centerclip.reduce(clip("PE-Core"), "kmedoids", segments=2, frames=4)
    saved.save(tmp_path / "reduced.safetensors")
    with pytest.raises(UserError, match=r"load_reduced\(path, model\) with one like it"):
        centerclip.load_reduced(tmp_path / "reduced.safetensors")
    other = clip("PE-Core")
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    loaded = centerclip.load_reduced(tmp_path / "reduced.safetensors", other)
    assert torch.equal(loaded.encode_video(video), saved.encode_video(video))


@pytest.mark.parametrize("family", TURNING)
def test_rotations_follow_tokens_by_their_places(family, video):
    tower = tower_of(clip(family).visual)
    x, places = tower.embed(video[0]), tower.places(4)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1)) + tower.classes
    order = torch.cat([torch.arange(tower.classes), order])

    def vectors(x: Tensor, places: Tensor) -> Tensor:
        for block in tower.blocks:
            x = tower.run(block, x, places)
        return normalize(tower.pool(x, tower.classes), dim=-1)

    assert torch.allclose(vectors(x[:, order], places[:, order]), vectors(x, places), atol=1e-6)
    assert (vectors(x, places[:, order]) - vectors(x, places)).abs().max() > 1e-3


@pytest.mark.parametrize("family", TURNING_WITH_CLASS)
def test_class_attention_is_that_of_rotated_queries_and_keys(family, video):
    tower = tower_of(clip(family).visual)
    x, block, table = tower.embed(video[0]), tower.blocks[1], tower.trunk.rope.get_embed()
    queries, keys, _ = tower.projected(block, x).view(4, 17, 3, 2, 16).permute(2, 0, 3, 1, 4)
    keys = torch.cat([keys[:, :, :1], apply_rot_embed_cat(keys[:, :, 1:], table)], 2)
    expected = (queries[:, :, :1] @ keys.mT / math.sqrt(16)).softmax(-1)[:, :, 0, 1:].mean(1)
    got = class_attention(*tower.attention(block, x, tower.places(4))[1:3], 1)
    assert torch.allclose(got, expected, atol=1e-6)


def test_packed_frames_are_each_alone_with_the_rotations_of_its_patches(video):
    held, threshold = clip("EVA-02"), 1.1
    trunk, vectors = held.visual.trunk, []
    got = centerclip.reduce(held, "rlt", frames=4, threshold=threshold).encode_video(video)
    keep = rlt(video, 8, threshold=threshold)[0]
    assert 0.1 < keep[1:].float().mean() < 0.9
    for frame, real in zip(video[0], keep, strict=True):
        kept = real.nonzero()[:, 0]
        x = embedded(trunk, frame[None])
        x = torch.cat([x[:, :1], x[:, 1:][:, kept]], 1)
        for block in trunk.blocks:
            x = block(x, **rotations(trunk, kept))
        vectors.append(pooled(held.visual, x[0]))
    assert torch.allclose(got[0], normalize(torch.stack(vectors).mean(0), dim=-1), atol=1e-5)


@pytest.mark.parametrize(
    "other", [{"qk_norm": True}, {"reg_tokens": 2}, {"global_pool": "max"}, {"patch_drop_rate": 0.5}]
)
def test_what_the_tower_does_not_compute_is_refused(other):
    held = clip("MobileCLIP")
    assert is_plain(held.visual)
    held.visual.trunk = ViT(**other)
    with pytest.raises(UserError, match=r"^reduce: the video side is a VisionTransformer, not a ViT of .*md lists"):
        centerclip.reduce(held, "kmedoids")


@pytest.mark.slow
def test_all_sizes_are_those_of_the_built_towers():
    """Of every tower of timm's that open_clip names, built without memory, on frames of two sizes."""
    configs = {name: open_clip.get_model_config(name)["vision_cfg"] for name in open_clip.list_models()}
    named = {vision["timm_model_name"]: name for name, vision in configs.items() if "timm_model_name" in vision}
    for timm_name, name in named.items():
        vision = configs[name]
        with torch.device("meta"):
            pool, proj = vision.get("timm_pool", "avg"), vision.get("timm_proj", "linear")
            visual = open_clip.timm_model.TimmModel(timm_name, 512, vision["image_size"], pool, proj)
        assert is_plain(visual) == (name in backbones.names()), name
        if is_plain(visual):
            assert replace(held_geometry(holder(visual)), context=0) == replace(backbones.geometry(name), context=0)
            visual.set_input_size(size := 2 * tower_of(visual).patch_size)
            other = backbones.geometry(name, size)
            assert replace(held_geometry(holder(visual)), context=0) == replace(other, context=0)


def holder(visual: nn.Module) -> nn.Module:
    """A module with a video side alone."""
    made = nn.Module()
    made.visual = visual
    return made


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("PE-Core-T-16-384", 192), ("ViTamin-S", 128)])
def test_a_backbone_at_full_size_is_open_clips(name, size):
    ours, theirs = build(Model(name), 0).eval(), open_clip.create_model(name).eval()
    theirs.load_state_dict(ours.state_dict())
    image = torch.randn(1, 3, *theirs.visual.image_size)
    ids = open_clip.get_tokenizer(name)(["a red circle"])
    assert torch.allclose(ours.encode_video(image[:, None]), theirs.encode_image(image, normalize=True), atol=1e-6)
    for given in (ids, ids[:, :6]):  # the mask is cut
        assert torch.allclose(ours.encode_text(given), theirs.encode_text(ids, normalize=True), atol=1e-6)
    smaller = build(Model(name), 0, size).eval()
    assert smaller.tower.patches == backbones.geometry(name, size).patches
    assert smaller.encode_video(torch.randn(1, 1, 3, size, size)).shape == (
        1,
        backbones.model_config(name)["embed_dim"],
    )


@pytest.mark.parametrize("family", FAMILIES)
class TestBackbone:
    """A model of each family as a backbone of a cell."""

    def test_its_sizes_stem_and_weights(self, family, monkeypatch, tmp_path):
        name = as_backbone(monkeypatch, family, init_logit_bias=-10.0)
        cell = tiny_cell(Stage("kmedoids", 1, 2, 9), model=Model(name, stages=(Stage("kmedoids", 1, 2, 9),)))
        model = build(cell.model, 0, 48)
        assert held_geometry(model) == backbones.geometry(name, 48)
        freeze(model, "stem")
        stem, trunk = re.compile(model.visual.trunk.group_matcher()["stem"]), "visual.trunk."
        still = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        named = {trunk + name for name, _ in model.visual.trunk.named_parameters() if stem.match(name)}
        assert named | {"text.token_embedding.weight", "text.positional_embedding"} <= still
        assert all("norm_pre." in name or name in named for name in still if name.startswith(trunk))
        save_weights(model.state_dict(), name, tmp_path / "w.safetensors")
        trained = build_trained(replace(cell, data=Data(4, 8, 48)), tmp_path / "w.safetensors")
        assert all(torch.equal(trained.state_dict()[name], value) for name, value in model.state_dict().items())

    def test_it_searches(self, family, monkeypatch):
        name = as_backbone(monkeypatch, family, TEXT | {"context_length": 77, "vocab_size": 49408})
        retriever = Retriever(cell_of_weights(name, None, 4, [Stage("kmedoids", 1, 2, 16)]))
        frames = [torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8) for _ in range(2)]
        vectors = retriever.encode_frames([(part, torch.ones(4, dtype=torch.bool)) for part in frames])
        texts = retriever.encode_sentences(["a red circle", "a dog"])
        assert vectors.shape == texts.shape == (2, 16) and len(retriever.fingerprint()) == 64


def test_weights_without_a_bias_or_of_another_layout_of_the_text_side(monkeypatch, tmp_path):
    name = as_backbone(monkeypatch, "SigLIP", init_logit_bias=-10.0)
    model = build(Model(name), 0)
    state = {key.removeprefix("text."): value for key, value in model.state_dict().items() if key != "logit_bias"}
    torch.save(state | {"logit_scale": state["logit_scale"][None]}, tmp_path / "w.pt")
    loaded = build(Model(name, str(tmp_path / "w.pt")), 1)
    assert loaded.logit_bias == 0 and torch.equal(loaded.text.ln_final.weight, model.text.ln_final.weight)
    del state["visual.trunk.patch_embed.proj.weight"]
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(
        UserError, match=r"not those of small-.*: the file lacks 'visual.trunk.patch_embed.proj.weight'"
    ):
        build(Model(name, str(tmp_path / "w.pt")), 1)


def test_texts_of_which_every_place_is_seen_keep_their_context(monkeypatch):
    text = TEXT | {"no_causal_mask": True, "pool_type": "last", "hf_tokenizer_name": "org/name"}
    name = as_backbone(monkeypatch, "SigLIP", text)
    assert backbones.reads_padding(name) and not backbones.reads_padding("ViT-B-32")
    with pytest.raises(UserError, match=r"^small-SigLIP: its tokenizer org/name needs transformers: pip install 'cent"):
        monkeypatch.setattr("centerclip.backbones.texts.find_spec", lambda _: None)
        Texts(name, 8)


def test_texts_by_a_tokenizer_of_the_hub(monkeypatch):
    """A word is a token, then comes 2; 1 is the padding."""

    def tokenizer(texts, max_length=None, **_):
        rows = [[3] * len(text.split()) + [2] for text in ([texts] if isinstance(texts, str) else texts)]
        if max_length is None:
            return SimpleNamespace(input_ids=rows[0])
        return SimpleNamespace(input_ids=torch.tensor([(row + [1] * max_length)[:max_length] for row in rows]))

    text = TEXT | {"no_causal_mask": True, "pool_type": "last", "hf_tokenizer_name": "org/name"}
    name = as_backbone(monkeypatch, "SigLIP", text)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, backbones.read(name))
    auto = SimpleNamespace(from_pretrained=lambda *_, **__: tokenizer)
    package = SimpleNamespace(AutoTokenizer=auto, __spec__=True)
    monkeypatch.setitem(sys.modules, "transformers", package)
    texts = Texts(name, 8)
    expected = [[3, 3, 2, 1, 1, 1, 1, 1], [3, 2, 1, 1, 1, 1, 1, 1]]
    assert texts.ids(["a dog", "dogs"]).tolist() == texts.short_ids(["a dog", "dogs"]).tolist() == expected
    assert [texts.cut(sentence) for sentence in ("one two three four five six seven", 8 * "word ")] == [False, True]
    lost = mock.Mock(side_effect=OSError("org/name is not there\nlonger story"))
    monkeypatch.setattr(auto, "from_pretrained", lost)
    with pytest.raises(
        UserError, match=r"^small-SigLIP: its tokenizer org/name cannot be loaded: org/name is not there$"
    ):
        Texts(name, 8)


@pytest.mark.parametrize(
    ("name", "tag", "stored"),
    [
        ("ViT-B-32", "openai", 224),
        ("ViT-B-16-SigLIP2", "webli", "squash-224"),
        ("MobileCLIP-B", "datacompdr", "bilinear-224"),
        ("PE-Core-B-16", "meta", "squash-bilinear-224"),
    ],
)
def test_images_are_those_of_a_weights_tag(name, tag, stored):
    """As open_clip's own transform makes them of a frame."""
    data, pixels = Data(4, 32, 224, images(name, tag)), np.random.default_rng(0).integers(256, size=(240, 320, 3))
    settings = open_clip.get_pretrained_cfg(OTHER_NAMES.get(name, name), tag)
    keys = ("mean", "std", "interpolation", "resize_mode")
    transform = open_clip.image_transform(224, False, **{key: settings[key] for key in keys})
    frame = np.asarray(squared(pixels.astype(np.uint8), data.stored))
    ours = normalise(torch.from_numpy(frame.copy()).permute(2, 0, 1), data.images)
    assert data.stored == stored
    assert torch.allclose(ours, transform(Image.fromarray(pixels.astype(np.uint8))), atol=1e-5)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"audio_cfg": {}, "text_cfg": TEXT}, "it has no video or no text side"),
        ({"vision_cfg": {"image_size": 224, "patch_size": 16}, "text_cfg": TEXT}, "it has no number of blocks"),
        (backbones.TINY | {"text_cfg": TEXT | {"arch": "moderntext"}}, "its configuration has arch, not known here"),
        (backbones.TINY | {"loss": "x"}, "its configuration has loss, not known here"),
    ],
)
def test_configurations_of_a_later_open_clip_are_refused(config, reason):
    assert backbones.reason(config) == reason
