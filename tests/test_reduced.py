"""`centerclip.reduce`: saved with its settings and read again; one graph, one module among others."""

import json

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

import centerclip
from centerclip import backbones
from centerclip.command import UserError
from centerclip.method.reduced import ReducedCLIP
from centerclip.method.state import SETTINGS

CUSTOM = backbones.TINY | {"embed_dim": 32, "quick_gelu": False}  # no backbone of ours


def clip(config: dict = backbones.TINY, seed: int = 0) -> open_clip.CLIP:
    torch.manual_seed(seed)
    return open_clip.CLIP(**config).eval()


def reduced(config: dict = backbones.TINY, method: str = "kmedoids", **options) -> ReducedCLIP:
    stage = {} if method in ("tome", "evit", "rlt") else {"segments": 2, "clusters": 9}
    return centerclip.reduce(clip(config), method, frames=4, **stage | options)


@pytest.fixture(scope="module")
def videos() -> tuple[Tensor, Tensor]:
    frames = torch.randn(2, 4, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    return frames, torch.tensor([[True] * 4, [True, True, False, False]])


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


class TestSaved:
    @pytest.mark.parametrize(
        ("method", "options"),
        [
            ("kmedoids", {"block": 1, "keep": "mean", "distance": "cosine"}),
            ("spectral", {"sigma": None}),
            ("tome", {"remove": 3}),
            ("rlt", {"threshold": 0.2}),
        ],
    )
    def test_read_again_it_gives_the_same_vectors(self, method, options, videos, tmp_path):
        saved = reduced(method=method, **options)
        saved.save(tmp_path / "reduced.safetensors")
        loaded = centerclip.load_reduced(tmp_path / "reduced.safetensors")
        assert loaded.settings == saved.settings and not loaded.training
        assert torch.equal(loaded.encode_video(*videos), saved.encode_video(*videos))
        text = torch.tensor([[49406, 320, 49407, *[0] * 74]])
        assert torch.equal(loaded.encode_text(text), saved.encode_text(text))

    def test_a_reduced_model_may_be_reduced_in_another_way(self, videos, tmp_path):
        first = reduced()
        saved = centerclip.reduce(first, "tome", frames=4, remove=3)
        saved.save(tmp_path / "reduced.safetensors")
        loaded = centerclip.load_reduced(tmp_path / "reduced.safetensors")
        assert saved.clip is first.clip and list(saved.stages) == [f"{block}-inside" for block in range(4)]
        assert torch.equal(loaded.encode_video(*videos), saved.encode_video(*videos))

    def test_precision_stays(self, tmp_path):
        saved = reduced().bfloat16()
        saved.save(tmp_path / "reduced.safetensors")
        loaded = centerclip.load_reduced(tmp_path / "reduced.safetensors")
        assert {tensor.dtype for tensor in loaded.parameters()} == {torch.bfloat16}

    def test_a_model_that_is_no_backbone_is_given(self, videos, tmp_path):
        path, saved = tmp_path / "reduced.safetensors", reduced(CUSTOM)
        saved.save(path)
        with pytest.raises(UserError, match=r"reduced\.safetensors: its backbone is not in .* load_reduced\(path, m"):
            centerclip.load_reduced(path)
        loaded = centerclip.load_reduced(path, clip(CUSTOM, seed=1))
        assert torch.equal(loaded.encode_video(*videos), saved.encode_video(*videos))
        with pytest.raises(UserError, match=r"reduced\.safetensors: Error\(s\) in loading .* size mismatch [^\n]*$"):
            centerclip.load_reduced(path, clip())

    def test_a_file_that_is_no_reduced_model_is_a_line(self, tmp_path):
        path = tmp_path / "w.safetensors"
        for content in (None, b"", b"nonsense", b"\x10" + bytes(7) + b"{}"):
            if content is not None:
                path.write_bytes(content)
            with pytest.raises(UserError, match=r"^[^\n]*w\.safetensors: no[^\n]*$"):
                centerclip.load_reduced(path)
        save_file(clip().state_dict(), path)
        with pytest.raises(UserError, match=r"w\.safetensors: not of a model of centerclip\.reduce"):
            centerclip.load_reduced(path)

    @pytest.mark.parametrize("block", [9, -1, "2", None])
    def test_settings_that_do_not_fit_are_a_line(self, block, tmp_path):
        path = tmp_path / "w.safetensors"
        reduced().save(path)
        state = load_file(path)
        settings = json.loads(bytes(state[SETTINGS].int().tolist()))
        settings["stages"][0]["block"] = block
        state[SETTINGS] = torch.tensor([*map(float, json.dumps(settings).encode())])
        save_file(state, path, {"backbone": "tiny"})
        with pytest.raises(UserError, match=r"^[^\n]*w\.safetensors: [^\n]*$"):
            centerclip.load_reduced(path)

    def test_the_state_dict_of_another_reduction_is_refused(self):
        state = reduced(clusters=5).state_dict()
        with pytest.raises(UserError, match=r"by kmedoids after block 2 \(--stage 2 2 5\)"):
            reduced().load_state_dict(state)
        assert reduced().load_state_dict(reduced().state_dict())


class TestForward:
    def test_it_gives_what_a_loss_takes(self, videos):
        model, text = reduced(), torch.tensor([[49406, 320, 49407, *[0] * 74]])
        vectors, texts, scale = model(*videos, text)
        assert torch.equal(vectors, model.encode_video(*videos)) and torch.equal(texts, model.encode_text(text))
        assert scale == model.clip.logit_scale.exp() and torch.equal(model(*videos), vectors)

    @pytest.mark.parametrize("method", ["kmedoids", "tome", "evit"])
    @pytest.mark.slow
    def test_torch_compile_makes_one_graph(self, method, videos):
        model = reduced(method=method)
        torch._dynamo.reset()
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        assert torch.allclose(compiled(*videos), model(*videos), atol=1e-5)

    @pytest.mark.slow
    def test_torch_compile_of_packed_frames_breaks_the_graph_a_few_times(self, videos):
        torch._dynamo.reset()
        assert torch._dynamo.explain(reduced(method="rlt"))(*videos).graph_break_count <= 8

    @pytest.mark.slow
    def test_torch_compile_trains(self, videos):
        def gradients(run):
            with torch.enable_grad():
                run(*videos).sum().backward()
            found = model.visual.conv1.weight.grad.clone()
            model.zero_grad()
            return found

        model = reduced()
        torch._dynamo.reset()
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        assert torch.allclose(gradients(compiled), gradients(model), atol=1e-4)

    @pytest.mark.slow
    def test_torch_export(self, videos):
        model = reduced()
        batch = torch.export.Dim("batch", min=2, max=16)
        exported = torch.export.export(model, videos, dynamic_shapes=({0: batch}, {0: batch}))
        more = [torch.cat([part, part[:1]]) for part in videos]
        assert torch.allclose(exported.module()(*more), model(*more), atol=1e-5)

    def test_distributed_data_parallel(self, videos, tmp_path):
        text = torch.tensor([[49406, 320, 49407, *[0] * 74]] * 2)
        distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
        try:
            model = reduced()
            parallel = DistributedDataParallel(model)
            with torch.enable_grad():
                for _ in range(2):  # the second asks for every gradient of the first
                    vectors, texts, scale = parallel(*videos, text)
                    (scale * (vectors * texts).sum()).backward()
            assert all(parameter.grad is not None for parameter in model.parameters())
        finally:
            distributed.destroy_process_group()
