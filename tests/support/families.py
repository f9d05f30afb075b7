"""Small models of open_clip with towers of timm's, one of each family."""

from functools import partial
from unittest import mock

import open_clip
import torch
from timm.layers import GluMlp
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from centerclip import backbones

SIZES = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2, "num_classes": 16}
TEXT = {"context_length": 8, "vocab_size": 64, "layers": 1, "width": 16, "heads": 2}
ViT, EVA = partial(VisionTransformer, **SIZES), partial(Eva, **SIZES)
ROTARY = {"use_rot_pos_emb": True, "ref_feat_shape": (4, 4)}
PE = ROTARY | {
    "attn_type": "rope",
    "use_pre_transformer_norm": True,
    "rope_grid_offset": 1.0,
    "rope_grid_indexing": "xy",
}
FAMILIES = {
    "SigLIP": partial(ViT, class_token=False, global_pool="map"),
    "ViTamin": partial(ViT, class_token=False, global_pool="avg", fc_norm=True, pos_embed="none", mlp_layer=GluMlp),
    "MobileCLIP": partial(ViT, global_pool="token", no_embed_class=True, init_values=0.5),
    "EVA-01": partial(EVA, global_pool="token", init_values=0.5),
    "EVA-02": partial(EVA, global_pool="token", qkv_fused=False, swiglu_mlp=True, scale_mlp=True,
                      scale_attn_inner=True, **ROTARY),
    "EVA-02-E": partial(EVA, global_pool="token", use_post_norm=True),
    "PE-Core": partial(EVA, global_pool="map", **PE),
    "PE-Core-bigG": partial(EVA, global_pool="map", class_token=False, **PE),
}  # fmt: skip


def clip(family: str) -> open_clip.CustomTextCLIP:
    """A small model of open_clip with a trunk of the family."""
    torch.manual_seed(0)
    trunk = FAMILIES[family]()
    for parameter in trunk.parameters():  # biases, scales and positions, too
        nn.init.normal_(parameter, std=0.3)
    vision = {"timm_model_name": "small", "timm_pool": trunk.global_pool, "timm_proj": None, "image_size": 32}
    with mock.patch("timm.create_model", lambda *_, **__: trunk):
        return open_clip.CustomTextCLIP(embed_dim=16, vision_cfg=vision, text_cfg=TEXT).eval()


def as_backbone(monkeypatch, family: str, text: dict = TEXT, **more: object) -> str:
    """The name of a backbone that is a small model of the family, as long as `monkeypatch` lasts; `text` and `more` are
    of open_clip's configuration."""
    name, file, trunk = f"small-{family}", f"small_{family.lower()}_patch8", FAMILIES[family]()
    vision = {"timm_model_name": f"{file}_32", "timm_pool": trunk.global_pool, "timm_proj": None, "image_size": 32}
    config = {"embed_dim": 16, "custom_text": True, "vision_cfg": vision, "text_cfg": text, **more}
    pooling, read = trunk.global_pool.replace("token", "tok"), backbones.read
    monkeypatch.setitem(backbones.TRUNKS, file, (32, 3, pooling, trunk.num_prefix_tokens))
    monkeypatch.setattr(backbones, "read", lambda asked: config if asked == name else read(asked))
    monkeypatch.setattr("timm.create_model", lambda *_, **__: FAMILIES[family]())
    backbones.problem.cache_clear()
    return name
