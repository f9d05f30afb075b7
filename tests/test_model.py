"""The model against open_clip's own, and its stages against counting by hand."""

import sys
from dataclasses import replace
from functools import partial

import open_clip
import pytest
import torch
from support.cells import tiny_cell

from centerclip import backbones
from centerclip.backbones import model_config
from centerclip.backbones.clip import CenterCLIP, build, freeze
from centerclip.backbones.weights import save_weights
from centerclip.cli import main
from centerclip.command import UserError
from centerclip.evaluate.costs import gflops, saved_bytes
from centerclip.method import reduction, shifts
from centerclip.method.reduction.kmedoids import kmedoids
from centerclip.method.reduction.spectral import spectral
from centerclip.method.shifts import SHIFTS
from centerclip.method.stage import Model, Stage
from centerclip.method.stages import Reduction, Sequences, cluster_means
from centerclip.train.finished import build_trained

KMEDOIDS = Stage("kmedoids", block=2, segments=4, clusters=49)


def tiny_model(*stages: Stage, shift: str | None = None) -> CenterCLIP:
    return build(Model("tiny", stages=stages, shift=shift), seed=0)


@pytest.fixture(scope="module")
def frames():
    return torch.randn(2, 12, 3, 56, 56, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def tiny():
    return tiny_model().eval()


@pytest.fixture(scope="module")
def reference(tiny):
    """open_clip's own model with the same weights."""
    model = open_clip.CLIP(**model_config("tiny")).eval()
    model.load_state_dict(tiny.state_dict())
    return model


def unit(x):
    return torch.nn.functional.normalize(x, dim=-1)


@torch.no_grad()
def test_without_a_stage_a_video_is_the_mean_of_open_clips_frames(tiny, reference, frames):
    single = tiny.encode_video(frames[:, :1])
    assert torch.allclose(single, reference.encode_image(frames[:, 0], normalize=True), atol=1e-5)
    every = reference.encode_image(frames.flatten(0, 1), normalize=True).view(2, 12, -1)
    assert torch.allclose(tiny.encode_video(frames), unit(every.mean(1)), atol=1e-5)


SHAPES = {  # of the video side
    "as it is": {},
    "patch 14": {"patch_size": 14},
    "width 80, 4 heads": {"width": 80, "head_width": 20, "mlp_ratio": 4.3637},
    "average pooling": {"pool_type": "avg"},
    "no norm before the blocks": {"no_ln_pre": True},
    "the last norm after pooling": {"final_ln_after_pool": True, "pool_type": "avg"},
    "scaled layers": {"ls_init_value": 0.1},
}
TEXTS = {  # and of the text side
    "as it is": {},
    "width 80": {"width": 80, "heads": 5},
    "every token sees every other": {"no_causal_mask": True},
    "its first token": {"pool_type": "first"},
    "its last token": {"pool_type": "last"},
    "its end mark": {"pool_type": "eos", "eos_id": 49407},
    "projected with a bias": {"proj_bias": True},
    "not projected": {"proj_type": "none"},
}


def shaped(monkeypatch, side: str, changes: dict) -> tuple[CenterCLIP, open_clip.CLIP]:
    """Ours and open_clip's model of the tiny backbone with changes to one of its sides, and the same weights."""
    config = backbones.TINY | {side: backbones.TINY[side] | changes}
    monkeypatch.setattr(backbones, "model_config", lambda *_: config)
    ours, theirs = tiny_model().eval(), open_clip.CLIP(**config).eval()
    for parameter in ours.parameters():  # biases too, which start as zeros
        torch.nn.init.normal_(parameter, std=0.1)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_the_video_side_is_open_clips(shape, frames, monkeypatch):
    ours, theirs = shaped(monkeypatch, "vision_cfg", SHAPES[shape])
    expected = theirs.encode_image(frames[:, 0], normalize=True)
    assert torch.allclose(ours.encode_video(frames[:, :1]), expected, atol=1e-5)
    assert backbones.geometry("tiny").patches == ours.visual.positional_embedding.shape[0] - 1


@torch.no_grad()
@pytest.mark.parametrize("shape", TEXTS)
def test_every_shape_of_the_text_side_is_open_clips(shape, monkeypatch):
    ours, theirs = shaped(monkeypatch, "text_cfg", TEXTS[shape])
    texts = ["a red circle", "two words and then some more"]
    short, full = (open_clip.SimpleTokenizer(context_length=length)(texts) for length in (32, 77))
    expected = theirs.encode_text(full, normalize=True)
    for ids in (short, full):
        assert torch.allclose(ours.encode_text(ids), expected, atol=1e-5)
    assert torch.allclose(ours.encode_text(full, normalize=False), theirs.encode_text(full), atol=1e-5)


@pytest.mark.parametrize("backbone", ["ViT-L-14", "ViT-L-14-336", "ViT-H-14"])
def test_a_large_backbones_parameters_and_sizes_are_open_clips(backbone):
    with torch.device("meta"):
        ours, theirs = CenterCLIP(backbone), open_clip.CLIP(**open_clip.get_model_config(backbone))
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (ours, theirs)]
    assert shapes[0] == shapes[1]
    geometry = backbones.geometry(backbone)
    assert theirs.visual.positional_embedding.shape == (1 + geometry.patches, geometry.width)
    assert len(theirs.visual.transformer.resblocks) == geometry.blocks
    assert (theirs.visual.image_size, theirs.context_length) == ((geometry.image_size,) * 2, geometry.context)
    assert geometry.pooling == theirs.visual.pool_type


class TestBackbones:
    def test_they_are_all_of_open_clips_with_a_plain_sequence(self):
        models = {backbones.OTHER_NAMES.get(name, name) for name in backbones.names()} - {"tiny"}
        assert models | backbones.refused().keys() == set(open_clip.list_models())
        assert len(models) == 111 and sum(map(backbones.needs_transformers, backbones.names())) == 48
        kinds = ("RN", "coca_", "convnext_", "MobileCLIP", "swin_", "vit_relpos")
        assert [sum(name.startswith(kind) for name in backbones.refused()) for kind in kinds] == [10, 4, 11, 6, 1, 1]

    def test_images_that_are_not_square_are_refused(self):
        config = backbones.TINY | {"vision_cfg": backbones.TINY["vision_cfg"] | {"image_size": [56, 112]}}
        assert backbones.reason(config) == "its images are not square"

    @pytest.mark.parametrize(
        ("name", "twin"),
        [
            ("ViT-B-32", "ViT-B-32-gelu"),
            ("ViT-L-14", "ViT-L-14-quickgelu"),
            ("ViT-L-14-336", "ViT-L-14-336-quickgelu"),
            ("ViT-B-32-256", None),
            ("tiny", None),
        ],
    )
    def test_twins_differ_in_the_activation_alone(self, name, twin):
        assert backbones.twin(name) == twin
        if twin:
            assert backbones.twin(twin) == name
            one, other = (backbones.model_config(of) for of in (name, twin))
            assert one | {"quick_gelu": True} == other | {"quick_gelu": True}
            assert backbones.activation(name) != backbones.activation(twin)

    def test_another_name_is_one_line(self):
        with pytest.raises(UserError, match=r"^backbone: 'ViT-L14' is no backbone; try ViT-L-14, "):
            CenterCLIP("ViT-L14")

    def test_the_command_lists_them_with_the_weights_that_work_in_them(self, monkeypatch, capsys):
        monkeypatch.setattr(sys, "argv", ["centerclip", "backbones"])
        main()
        lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
        assert list(lines) == ["backbone", *backbones.names(), *backbones.refused()]
        sizes = ["yes", "336", "576", "1024", "24", "tok", "77", "1", "quick_gelu"]
        assert lines["ViT-L-14-336-quickgelu"] == [*sizes, "openai"]
        assert lines["ViT-B-16-SigLIP2"] == ["hub", "224", "196", "768", "12", "map", "64", "0", "gelu", "webli"]
        assert lines["RN50"] == ["no:", "its", "video", "side", "is", "a", "ResNet"]
        assert "datacomp_xl_s13b_b90k" in lines["ViT-L-14"] and "openai" not in lines["ViT-L-14"]
        assert lines["tiny"] == ["yes", "56", "49", "64", "4", "tok", "77", "1", "quick_gelu"]


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-16"])
def test_a_backbones_name_says_its_size_and_activation(name):
    with torch.device("meta"):
        quick, gelu = CenterCLIP(name), CenterCLIP(f"{name}-gelu")
        theirs = [open_clip.CLIP(**open_clip.get_model_config(theirs)) for theirs in (f"{name}-quickgelu", name)]
    shapes = [{k: v.shape for k, v in model.state_dict().items()} for model in (quick, gelu, *theirs)]
    assert all(found == shapes[0] for found in shapes)
    for model, activation in (quick, open_clip.transformer.QuickGELU), (gelu, torch.nn.GELU):
        for tower in model.visual.transformer, model.transformer:
            assert all(type(block.mlp.gelu) is activation for block in tower.resblocks)


def test_a_stage_keeps_a_segments_medoids_in_order_and_the_mean_of_its_class_tokens():
    model = tiny_model(KMEDOIDS)
    x = torch.randn(2 * 12, 50, 64, generator=torch.Generator().manual_seed(1))
    out, segments, *_ = model.stages["2"](Sequences(x, torch.ones(2, 12, dtype=torch.bool)))
    assert out.shape == (2 * 4, 1 + 49, 64) and segments.all()
    assert torch.allclose(out[0, 0], x[0:3, 0].mean(0), atol=1e-6)
    tokens = x[3:6, 1:].flatten(0, 1)  # the first video's second segment
    places = [(tokens == kept).all(-1).nonzero().item() for kept in out[1, 1:]]
    assert places == sorted(places)


PADDED = {  # real frames of 12 in segments of 3 -> which segments count, with "drop" and with "keep"
    12: ([True] * 4, [True] * 4),
    9: ([True, True, True, False], [True, True, True, False]),
    7: ([True, True, False, False], [True, True, True, False]),
    3: ([True, False, False, False], [True, False, False, False]),
    2: ([True, False, False, False], [True, False, False, False]),  # no segment is whole: its last one counts
}


@pytest.mark.parametrize("padded", ["drop", "keep"])
def test_which_segments_of_a_short_video_count_and_what_their_class_token_is(padded):
    model = tiny_model(replace(KMEDOIDS, padded=padded))
    x = torch.randn(len(PADDED) * 12, 50, 64, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(12) < torch.tensor(list(PADDED))[:, None]
    out, segments, *_ = model.stages["2"](Sequences(x, mask))
    assert segments.tolist() == [both[padded == "keep"] for both in PADDED.values()]
    third = x.view(len(PADDED), 12, 50, 64)[2, 6:9, 0]  # [CLASS] of the video of 7 frames: one of them is real
    expected = third.mean(0) if padded == "drop" else third[0]
    assert torch.allclose(out.view(len(PADDED), 4, 50, 64)[2, 2, 0], expected, atol=1e-6)
    assert out.isfinite().all()


@torch.no_grad()
def test_a_video_shorter_than_a_segment_has_a_vector_and_several_stages_agree(frames):
    """Of 1 real frame in 12: through 4 segments, and through 6 and then 3."""
    mask = (torch.arange(12) < 1).expand(2, -1)
    stages = Stage("kmedoids", 1, 6, 49), Stage("kmedoids", 3, 3, 49)
    others = torch.cat([frames[:, :3], torch.randn(2, 9, 3, 56, 56)], 1)
    for model in (tiny_model(KMEDOIDS).eval(), tiny_model(*stages).eval()):
        vectors = model.encode_video(frames, mask)
        assert torch.allclose(vectors.norm(dim=-1), torch.ones(2))
        if len(model.stages) == 1:  # of the first segment alone
            assert torch.allclose(model.encode_video(others, mask), vectors, atol=1e-6)


def test_gradients_reach_the_kept_tokens_and_no_others():
    model = tiny_model(KMEDOIDS)
    x = torch.randn(12, 50, 64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    out = model.stages["2"](Sequences(x, torch.ones(1, 12, dtype=torch.bool))).tokens
    out.sum().backward()
    tokens, gradient = (y.unflatten(0, (4, 3))[:, :, 1:].flatten(1, 2) for y in (x, x.grad))
    kept = (tokens[:, :, None] == out[:, None, 1:]).all(-1).any(-1)
    assert kept.sum() == 4 * 49
    assert torch.equal(gradient, kept[..., None].expand_as(gradient).float())


def test_a_stage_may_keep_the_means_of_clusters_with_gradients_to_every_token():
    model = tiny_model(replace(KMEDOIDS, algorithm="pooling", keep="mean"))
    x = torch.randn(12, 50, 64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    out = model.stages["2"](Sequences(x, torch.ones(1, 12, dtype=torch.bool))).tokens
    assert torch.allclose(out, x.unflatten(0, (4, 3)).mean(1), atol=1e-6)
    out.sum().backward()
    assert (x.grad[:, 1:].abs().sum(-1) > 0).all()


def test_cluster_means_by_loops():
    tokens = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(0))
    assignment = torch.tensor([[0, 0, 1, 2, 2, 2, 1, 0, 0], [2, 1, 0, 0, 0, 0, 0, 0, 0]])
    medoids, sizes = torch.tensor([[1, 6, 3], [2, 1, 0]]), torch.tensor([[1.0, 2, 1, 5, 1, 1, 3, 1, 4]]).repeat(2, 1)
    for given in (None, sizes):
        means = cluster_means(tokens, medoids, assignment, given)
        for b in range(2):
            for k in range(3):
                members = [n for n in range(9) if assignment[b, n] == k]
                weights = [1.0 if given is None else given[b, n].item() for n in members]
                expected = sum(w * tokens[b, n] for w, n in zip(weights, members, strict=True)) / sum(weights)
                assert torch.allclose(means[b, k], expected, atol=1e-6)


def test_sampling_is_random_only_in_training(frames):
    model = tiny_model(replace(KMEDOIDS, algorithm="sparse_sampling"))
    with torch.no_grad():
        assert not torch.equal(model.encode_video(frames), model.encode_video(frames))
        model.eval()
        assert torch.equal(model.encode_video(frames), model.encode_video(frames))


def test_several_stages_and_every_option_of_the_papers_diagnostics(frames):
    stages = [
        Stage("kmedoids", 3, 3, 20, "mean", embedding=True, options={"distance": "cosine", "normalise": True}),
        Stage("spectral", 1, 6, 60, options={"graph": "heat", "sigma": 2.0}),
    ]  # in any order
    lengths = []
    model = tiny_model(*stages).eval()
    for block in model.visual.transformer.resblocks:
        block.register_forward_pre_hook(lambda _, arguments: lengths.append(tuple(arguments[0].shape[:2])))
    with torch.no_grad():
        assert model.encode_video(frames).shape == (2, 64)
    assert lengths == [(24, 50), (12, 61), (12, 61), (6, 21)]


@torch.no_grad()
@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_changes_a_video_by_the_channels_that_it_moves_alone(tiny, frames, name, monkeypatch):
    model = tiny_model(shift=name).eval()
    model.load_state_dict(tiny.state_dict())
    assert not torch.allclose(model.encode_video(frames), tiny.encode_video(frames), atol=1e-4)
    monkeypatch.setattr(shifts, "SHARE", 1000)  # of 64 channels none is shifted
    assert torch.allclose(model.encode_video(frames), tiny.encode_video(frames), atol=1e-5)


def test_frames_and_masks_that_do_not_fit_are_one_line(frames):
    model, mask = tiny_model(KMEDOIDS), torch.ones(2, 12, dtype=torch.bool)
    clips = tiny_model(Stage("tome", 2, 6, remove=2, keep="weighted", classes="all", clip_embedding=12))
    needs = "after block 2: a video has {} frames (or earlier segments), and the stage needs {}"
    for given, line in (
        (lambda: model.encode_video(frames[:, :10]), "kmedoids " + needs.format(10, "a multiple of 4")),
        (lambda: model.encode_video(frames[:, :1]), "kmedoids " + needs.format(1, "a multiple of 4")),
        (lambda: clips.encode_video(frames[:, :6]), "tome " + needs.format(6, 12)),
        (lambda: model.encode_video(frames, mask[:1]), "mask is [1, 12], and the frames need [2, 12]"),
        (lambda: model.encode_video(frames[0]), "frames are [12, 3, 56, 56], not [videos, frames, 3, height, width]"),
    ):
        with pytest.raises(UserError) as error:
            given()
        assert str(error.value) == line


@torch.no_grad()
def test_padding_changes_nothing(tiny, frames):
    padded = torch.cat([frames, frames[:, -1:].expand(-1, 3, -1, -1, -1)], 1)
    mask = torch.arange(15).expand(2, 15) < 12
    assert torch.allclose(tiny.encode_video(padded, mask), tiny.encode_video(frames), atol=1e-6)


def test_gflops_agree_with_counting_by_hand(frames):
    """2 operations a multiply-add: patch embedding, then per block 12 D^2 a token and 2 D a pair of tokens."""
    width, blocks, patches = 64, 4, 49

    def encoder(sequences, length, blocks):
        return sequences * blocks * 2 * (12 * width**2 * length + 2 * width * length**2)

    embedding = 12 * patches * 2 * 3 * 8 * 8 * width
    baseline = embedding + encoder(12, 50, blocks) + 12 * 2 * width * 64
    assert gflops(tiny_model().eval(), frames[:1]) * 1e9 == pytest.approx(baseline, rel=1e-6)
    pairs = 73 * 147 + 74 * 74  # of each segment's 3 x 49 tokens, three quarters of the Gram matrix
    distances = 4 * 2 * pairs * width
    clustered = embedding + encoder(12, 50, 2) + distances + encoder(4, 50, 2) + 4 * 2 * width * 64
    for algorithm in ("kmedoids", "spectral"):
        counted = gflops(tiny_model(replace(KMEDOIDS, algorithm=algorithm)).eval(), frames[:1]) * 1e9
        # the distances between the rows of 49 eigenvectors; the counter leaves out the solver
        extra = 4 * 2 * pairs * 49 if algorithm == "spectral" else 0
        assert counted == pytest.approx(clustered + extra, rel=1e-6)


@torch.no_grad()
def test_mixed_precision_changes_little(frames):
    """bfloat16 as on a GPU, here on the CPU: every operation must accept it, and vectors stay nearly the same."""
    model = tiny_model().eval()
    ids = open_clip.SimpleTokenizer(context_length=32)(["a red circle", "two words and then some more"])
    exact = model.encode_video(frames), model.encode_text(ids)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model.encode_video(frames), model.encode_text(ids)
        clustered = tiny_model(KMEDOIDS).eval().encode_video(frames)
    for one, other in zip(exact, mixed, strict=True):
        assert other.dtype == torch.float32
        assert ((one * other).sum(-1) > 0.999).all()
    assert torch.allclose(clustered.norm(dim=-1), torch.ones(2), atol=1e-5)


def test_clustering_saves_memory_for_the_backward_pass(frames):
    baseline, clustered = tiny_model(), tiny_model(KMEDOIDS)
    # Half of the blocks see a third of the tokens: about 1/2 + 1/2 x 1/3 of the bytes.
    assert saved_bytes(clustered, frames) / saved_bytes(baseline, frames) == pytest.approx(2 / 3, abs=0.06)


@pytest.mark.parametrize("clusters", [20, 49, 60])
def test_a_cluster_embedding_starts_as_the_positions_of_the_first_patches_and_learns(frames, clusters):
    model = tiny_model(replace(KMEDOIDS, clusters=clusters, embedding=True))
    embedding, places = model.get_parameter("stages.2.embedding"), min(clusters, 49)
    assert embedding.shape == (clusters, 64) and embedding[:places].any() and not embedding[places:].any()
    assert torch.equal(embedding[:places], model.visual.positional_embedding[1 : 1 + places])
    model.encode_video(frames).sum().backward()
    assert embedding.grad.abs().sum() > 0


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("algorithm", [name for name in reduction.names() if not reduction.sees_pixels(name)])
def test_algorithms_compute_in_their_own_precision_under_autocast(algorithm, precision):
    tokens = torch.randn(8, 147, 64, generator=torch.Generator().manual_seed(0))
    for given in (tokens, tokens.to(precision)):
        clusters = 100 if reduction.keeps(algorithm) == reduction.HALF else 49
        context = {"frames": 3, "segments": 1, "classes": 1, "scores": tokens[..., 0]}
        reduced = Reduction(algorithm, {})
        torch.manual_seed(0)
        expected = reduced(given, clusters, **context)
        with torch.autocast("cpu", precision):
            torch.manual_seed(0)
            medoids, assignment = reduced(given, clusters, **context)
        assert torch.equal(medoids, expected[0]) and torch.equal(assignment, expected[1])


@pytest.mark.parametrize("algorithm", [kmedoids, partial(spectral, frames=3, sigma=None)])
def test_kmedoids_and_spectral_called_directly_keep_their_medoids_under_autocast(algorithm):
    tokens = torch.randn(8, 147, 64, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        lowered = algorithm(tokens, 49)
    assert all(map(torch.equal, lowered, algorithm(tokens, 49)))


def test_an_algorithm_is_told_the_frames_and_whether_the_model_trains(frames, monkeypatch):
    model, told = tiny_model(replace(KMEDOIDS, algorithm="pooling")), []
    pooling = model.stages["2"].reduction
    function = pooling.function
    monkeypatch.setattr(pooling, "context", list(reduction.CONTEXT))
    monkeypatch.setattr(
        pooling, "function", lambda *arguments, **context: told.append(context) or function(*arguments, frames=3)
    )
    with torch.no_grad():
        model.train().encode_video(frames)
        model.eval().encode_video(frames)
    context = {"frames": 3, "segments": 4, "classes": 1, "scores": None}
    assert told == [context | {"training": training} for training in (True, False)]


@pytest.mark.parametrize(("backbone", "millions"), [("ViT-B-32", 27.7), ("tiny", 3.2)])
def test_a_frozen_stem_is_all_that_comes_before_the_blocks(backbone, millions):
    with torch.device("meta"):
        model = CenterCLIP(backbone, [KMEDOIDS])
    freeze(model, "stem")
    still = {name: parameter.numel() for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert set(still) == {
        *("token_embedding.weight", "positional_embedding", "visual.class_embedding", "visual.positional_embedding"),
        *("visual.conv1.weight", "visual.ln_pre.weight", "visual.ln_pre.bias"),
    }
    assert round(sum(still.values()) / 1e6, 1) == millions
    freeze(model, "none")
    assert all(parameter.requires_grad for parameter in model.parameters())


class TestTrained:
    """Weights that training wrote, and what else may be in their place."""

    MODEL = Model("tiny", stages=(replace(KMEDOIDS, embedding=True),))

    def test_they_come_back(self, tmp_path):
        trained = build(self.MODEL, 1)
        torch.nn.init.ones_(trained.stages["2"].embedding)
        save_weights(trained.state_dict(), "tiny", tmp_path / "w.safetensors")
        # nothing is asked of the weights that it started from, which may be gone
        loaded = build_trained(
            tiny_cell(model=replace(self.MODEL, weights="gone.pt"), seed=2), tmp_path / "w.safetensors"
        )
        assert loaded.state_dict().keys() == trained.state_dict().keys()
        assert all(torch.equal(loaded.state_dict()[name], value) for name, value in trained.state_dict().items())

    @pytest.mark.parametrize(
        ("damage", "problem"),
        [
            (lambda path: path.unlink(), ": no such file"),
            (lambda path: path.write_bytes(path.read_bytes()[:-1000]), ": not a whole weights file ("),
            (lambda path: path.write_bytes(b""), ": not a whole weights file ("),
            (
                lambda path: save_weights(tiny_model().state_dict(), "tiny", path),
                ": not those of this model, which differ in 'stages.2.embedding'",
            ),
        ],
    )
    def test_others_are_one_line(self, tmp_path, damage, problem):
        path = tmp_path / "w.safetensors"
        save_weights(build(self.MODEL, 1).state_dict(), "tiny", path)
        damage(path)
        with pytest.raises(UserError) as error:
            build_trained(tiny_cell(model=self.MODEL), path)
        assert str(error.value).startswith(f"weights {path}{problem}") and "\n" not in str(error.value)
