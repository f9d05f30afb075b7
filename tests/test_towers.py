"""timm's towers as the method sees them, against timm's own code and loops."""

import math
from functools import partial

import open_clip
import pytest
import torch
from support.families import FAMILIES, ViT, clip
from timm.layers import apply_rot_embed_cat
from timm.models.eva import EvaBlockPostNorm
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

import centerclip
from centerclip import backbones
from centerclip.command import UserError
from centerclip.method.reduced import ReducedCLIP
from centerclip.method.reduction.kmedoids import kmedoids
from centerclip.method.reduction.rlt import rlt
from centerclip.method.reduction.tome import tome
from centerclip.method.towers import tower_of
from centerclip.method.towers.tower import class_attention
from centerclip.method.towers.trunk import is_plain

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
        got = centerclip.reduce(held, "kmedoids", segments=2, clusters=7, block=1, frames=4).encode_video(video)
        for vector, frames in zip(got, video, strict=True):
            vectors = []
            for segment in frames.unflatten(0, (2, 2)):
                x = trunk.blocks[0](embedded(trunk, segment), **rotations(trunk, torch.arange(16)))
                patches = x[:, classes:].flatten(0, 1)
                kept = kmedoids(patches[None], 7)[0][0]
                x = torch.cat([x[:, :classes].mean(0), patches[kept]])[None]
                for block in trunk.blocks[1:]:
                    x = block(x, **rotations(trunk, kept % 16))
                vectors.append(pooled(held.visual, x[0]))
            assert torch.allclose(vector, normalize(torch.stack(vectors).mean(0), dim=-1), atol=1e-5)

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

    def test_a_saved_model_is_read_into_one_like_it(self, family, video, tmp_path):
        saved = centerclip.reduce(clip(family), "kmedoids", segments=2, frames=4)
        saved.save(tmp_path / "reduced.safetensors")
        with pytest.raises(UserError, match=r"load_reduced\(path, model\) with one like it"):
            centerclip.load_reduced(tmp_path / "reduced.safetensors")
        other = clip(family)
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
def test_the_models_that_the_reason_of_a_backbone_says_are_the_towers():
    """Of all of open_clip's with a timm model, built without memory."""
    found = {}
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        vision = config["vision_cfg"]
        if timm_name := vision.get("timm_model_name"):
            if timm_name not in found:
                with torch.device("meta"):
                    pool, proj = vision.get("timm_pool", "avg"), vision.get("timm_proj", "linear")
                    visual = open_clip.timm_model.TimmModel(timm_name, 512, vision["image_size"], pool, proj)
                found[timm_name] = is_plain(visual)
            assert ("centerclip.reduce" in backbones.reason(config)) == found[timm_name], name
    assert sum(found.values()) > 30
