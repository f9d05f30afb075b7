"""Ways to reduce tokens that are not CenterCLIP's, against loops, the counts of their papers, and each other."""

import itertools
import math
from dataclasses import replace
from fractions import Fraction
from functools import partial

import open_clip
import pytest
import scipy.cluster.hierarchy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cells import tiny_cell
from support.methods import METHODS, model_of
from support.training import Twelve, batch, run_in, two_processes
from torch.nn.functional import linear, normalize

import centerclip
from centerclip import backbones
from centerclip.backbones.clip import CenterCLIP, build
from centerclip.command import UserError
from centerclip.evaluate.costs import smooth_videos
from centerclip.method import schedules
from centerclip.method.reduction.dpc_knn import dpc_knn
from centerclip.method.reduction.evit import evit
from centerclip.method.reduction.first_tokens import first_tokens
from centerclip.method.reduction.hpool import hpool
from centerclip.method.reduction.norm import norm
from centerclip.method.reduction.pitome import pitome
from centerclip.method.reduction.random_tokens import random_tokens
from centerclip.method.reduction.rlt import rlt
from centerclip.method.reduction.tome import tome
from centerclip.method.stage import Model, Stage
from centerclip.method.towers.own import OwnViT
from centerclip.method.towers.tower import class_attention
from centerclip.settings.config import read_config
from centerclip.settings.resolve import cell
from centerclip.train.loop import Run, backward

CPU = torch.device("cpu")
# r, schedule, image side of 8-pixel patches, [CLASS] and others that leave each of 12 blocks, of a video of 12 frames
COUNTS = [
    (2, "tome", 56, [576, 552, 528, 504, 480, 456, 432, 408, 384, 360, 336, 312]),
    (2, "pitome", 56, [576, 552, 528, 504, 480, 456, 432, 408, 384, 360, 336, 312]),
    (3, "tome", 56, [564, 528, 492, 456, 420, 384, 348, 312, 276, 240, 204, 168]),
    (2, "tempme", 56, [576, 552, 528, 504, 480, 456, 432, 408, 264, 168, 107, 97]),
    (10, "tempme", 112, [2244, 2124, 2004, 1884, 1764, 1644, 1524, 1404, 888, 564, 356, 321]),
]


def twelve_blocks(side: int) -> dict:
    """The configuration of a narrow encoder as deep as a ViT-B."""
    vision = {"image_size": side, "patch_size": 8, "layers": 12, "width": 16, "head_width": 8}
    return backbones.TINY | {"embed_dim": 8, "vision_cfg": vision}


def as_backbone(monkeypatch, config: dict) -> None:
    monkeypatch.setattr(backbones, "model_config", lambda *_: config)


def matching_by_loops(points, joining, classes):
    """The merge of ToMe in plain Python: the order of those that stay, and whom each of the others joins."""
    n = len(points)
    a, b = (range(1, n, 2), range(0, n, 2)) if classes % 2 else (range(0, n, 2), range(1, n, 2))
    unit = normalize(points.double(), dim=-1)
    cosine = (unit @ unit.T).float()  # of equal tokens 1, whatever float64 rounds
    partner = {i: max(b, key=lambda j: (cosine[i, j].item(), -j)) for i in a}
    best = sorted(a, key=lambda i: (-cosine[i, partner[i]].item(), i))[:joining]
    return [i for i in a if i not in best] + list(b), {i: partner[i] for i in best}


def protected_by_loops(points, joining, classes=1, margin=0.9):
    """The merge of PiToMe in plain Python, as `matching_by_loops`."""
    n, unit = len(points), normalize(points.double(), dim=-1)
    cosine = (unit @ unit.T).float().tolist()

    def energy(i):
        values = [cosine[i][j] for j in range(n) if j != i]
        return sum(x if x >= margin else math.expm1(x - margin) for x in values)

    falling = sorted(range(n), key=lambda i: (-round(energy(i), 4), i))[: 2 * joining]
    a, b = falling[::2], falling[1::2]
    return [i for i in range(n) if i not in a], {i: max(b, key=lambda j: (cosine[i][j], -b.index(j))) for i in a}


def points_of(kind):
    """21 points [21, 6] with equal distances or duplicates, which floats tell apart exactly, or without."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(21, 6, generator=generator)
    directions = torch.eye(6)[torch.randint(6, (21,), generator=generator)]
    duplicated, constant = points[torch.arange(21) // 2], torch.ones(21, 6)
    return {"random": points, "tied": directions, "duplicated": duplicated, "constant": constant}[kind]


@pytest.mark.parametrize("joining", [0, 1, 4, 10])
@pytest.mark.parametrize("kind", ["random", "tied", "duplicated", "constant"])
@pytest.mark.parametrize(
    ("algorithm", "loops"),
    [
        (partial(pitome, margin=0.4), partial(protected_by_loops, classes=1, margin=0.4)),
        (partial(tome, classes=1), partial(matching_by_loops, classes=1)),
        (partial(tome, classes=2), partial(matching_by_loops, classes=2)),
    ],
)
def test_matching_is_the_loops_answer(algorithm, loops, kind, joining):
    points = points_of(kind)
    (medoids,), (assignment,) = algorithm(points[None], 21 - joining)
    order, joined = loops(points, joining)
    assert medoids.tolist() == (order if joining else list(range(21)))
    assert {i: medoids[assignment[i]].item() for i in joined} == joined
    assert torch.equal(assignment[medoids], torch.arange(21 - joining))
    with pytest.raises(ValueError, match="no more than 10 can join"):
        algorithm(points[None], 10)


def test_tomes_matching_by_hand():
    """A is 1 and 3: 3 is more like 4 than 1 is like 0, and joins it; behind two [CLASS] A is 0, 2, 4."""
    points = torch.tensor([[1.0, 0.0], [1.0, 0.2], [0.0, -1.0], [0.0, 2.0], [0.1, 1.0]])
    medoids, assignment = tome(points[None], 4)
    assert medoids.tolist() == [[1, 0, 2, 4]] and assignment.tolist() == [[1, 0, 2, 3, 3]]
    medoids, assignment = tome(points[None], 4, classes=2)  # 4 is more like 3 than 0 is like 1
    assert medoids.tolist() == [[0, 2, 1, 3]] and assignment.tolist() == [[0, 2, 1, 3, 3]]


@torch.no_grad()
@pytest.mark.parametrize(("remove", "name", "side", "expected"), COUNTS)
def test_the_tokens_that_leave_each_block_are_the_papers_and_stand_for_every_patch(
    remove, name, side, expected, monkeypatch
):
    as_backbone(monkeypatch, twelve_blocks(side))
    model = build(model_of(name, 12, 12, remove=remove), 0).eval()
    run, counts = model.run_block, []

    def note(*arguments):
        left = run(*arguments)
        counts.append(left.tokens.shape[0] * left.tokens.shape[1])
        assert left.sizes[:, left.classes :].sum() == 12 * (side // 8) ** 2
        assert (left.sizes[:, : left.classes] == 1).all()
        return left

    monkeypatch.setattr(model, "run_block", note)
    model.encode_video(smooth_videos(1, 12, side))
    assert counts == expected


def block_by_hand(block, tokens, sizes):
    """Attention with log sizes added to the logits: what it adds to tokens [N, D], keys [N, D / H], and weights [N, N],
    both their mean over heads."""
    attn, x = block.attn, block.ln_1(tokens)
    q, k, v = linear(x, attn.in_proj_weight, attn.in_proj_bias).chunk(3, -1)
    mixed, weights, size = [], [], q.shape[1] // attn.num_heads
    for head in range(attn.num_heads):
        part = slice(head * size, (head + 1) * size)
        logits = q[:, part] @ k[:, part].T / math.sqrt(size) + sizes.log()
        weights.append(logits.softmax(-1))
        mixed.append(weights[-1] @ v[:, part])
    keys = k.view(len(k), attn.num_heads, size).mean(1)
    return attn.out_proj(torch.cat(mixed, 1)), keys, torch.stack(weights).mean(0)


@torch.no_grad()
def test_class_attention_is_the_rows_of_the_softmax_by_hand():
    """Of two [CLASS] tokens, their mean, with sizes and without."""
    tower = build(Model("tiny"), 0).tower
    block = tower.blocks[1]
    tokens = torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(0))
    sizes = torch.arange(1.0, 10).expand(2, -1)
    for each, bias in ((sizes, sizes.log()), (torch.ones(2, 9), None)):
        got = class_attention(*tower.attention(block, tokens, bias=bias)[1:3], 2, bias)
        rows = torch.stack(
            [block_by_hand(block, *video)[2][:2, 2:].mean(0) for video in zip(tokens, each, strict=True)]
        )
        assert got.dtype == torch.float32 and torch.allclose(got, rows, atol=1e-6)


@torch.no_grad()
def test_scores_of_joined_frames_are_each_frames_own(monkeypatch):
    stage = Stage("evit", 2, 2, 20, "attention", inside=True)
    model, rows, seen = build(Model("tiny", stages=(stage,)), 0).eval(), [], []

    def note(*arguments):
        rows.append(class_attention(*arguments))
        return rows[-1]

    monkeypatch.setattr("centerclip.method.video.class_attention", note)
    model.stages["2-inside"].reduction.function = lambda *given, scores: (
        seen.append(scores) or evit(*given, scores=scores)
    )
    model.encode_video(smooth_videos(2, 6, 56))
    assert rows[0].shape == (12, 49) and (rows[0].sum(1) < 1).all()
    assert torch.equal(seen[0], rows[0].view(4, 3 * 49))


def merged_by_hand(tokens, sizes, seen, classes, joining, matching=matching_by_loops):
    """[CLASS] tokens and others after `joining` of the others joined those that they are most like, and their sizes."""
    order, joined = matching(seen[classes:], min(joining, (len(seen) - classes) // 2), classes)
    kept, weights = list(tokens[:classes]), [1.0] * classes
    for i in order:
        members = [i, *(j for j, partner in joined.items() if partner == i)]
        weights.append(sum(sizes[classes + j].item() for j in members))
        kept.append(sum(sizes[classes + j] * tokens[classes + j] for j in members) / weights[-1])
    return torch.stack(kept), torch.tensor(weights)


def fused_by_hand(tokens, scores, joining):
    """[CLASS] and patches: all but `joining` + 1 of them as they are, and those as one, weighted by scores [N]."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i].item(), i))
    kept, rest = order[: -joining - 1], order[-joining - 1 :]
    fused = sum(scores[i] * tokens[1 + i] for i in rest) / sum(scores[i] for i in rest)
    return torch.stack([tokens[0], *(tokens[1 + i] for i in kept), fused])


def video_by_hand(model, video, remove, joins=(), across=0.0, within=0.0, name="tome"):
    """The vector of one video by a method, TempMe's with joins, sequence by sequence."""
    visual, blocks = model.visual, list(model.visual.transformer.resblocks)
    clips = [(tokens, torch.ones(len(tokens))) for tokens in visual._embeds(video)]
    classes, first = 1, len(blocks) - 1 - len(joins) if joins else len(blocks)
    for index, block in enumerate(blocks):
        if 0 <= index - first < len(joins):
            join, groups = joins[index - first], []
            positions = model.stages[str(index)].clip_embedding
            for start in range(0, len(clips), join):
                group = clips[start : start + join]
                place = [positions[start + number].expand_as(tokens) for number, (tokens, _) in enumerate(group)]
                seen, sizes, added = (
                    torch.cat([part[:classes] for part in parts] + [part[classes:] for part in parts])
                    for parts in (*zip(*group, strict=True), place)
                )
                fewer = math.floor(across * len(seen))
                groups.append(merged_by_hand(seen + added, sizes, seen, classes * join, fewer))
            clips, classes = groups, classes * join
        for number, (tokens, sizes) in enumerate(clips):
            added, keys, weights = block_by_hand(block, tokens, sizes)
            fewer = remove if index < first else math.floor(within * len(tokens))
            matching = partial(protected_by_loops, margin=0.9 - 0.9 * index / 4)
            if name == "evit":
                tokens = fused_by_hand(tokens + added, weights[0, 1:], fewer) if index else tokens + added
                sizes = torch.ones(len(tokens))
            else:
                rule = matching if name == "pitome" else matching_by_loops
                tokens, sizes = merged_by_hand(tokens + added, sizes, keys, classes, fewer, rule)
            clips[number] = tokens + block.mlp(block.ln_2(tokens)), sizes
    vectors = torch.cat([normalize(visual.ln_post(tokens[:classes]) @ visual.proj, dim=-1) for tokens, _ in clips])
    return normalize(vectors.mean(0), dim=0)


@torch.no_grad()
@pytest.mark.parametrize("name", ["tome", "pitome", "tempme", "evit"])
def test_a_video_is_that_of_the_method_by_hand(name):
    video = smooth_videos(2, 6, 56)
    model = build(METHODS[name], 0).eval()
    for stage in model.stages.values():
        if stage.clip_embedding is not None:
            torch.nn.init.normal_(stage.clip_embedding, std=0.1)
    options = {"remove": 5}
    if name == "tempme":
        options = {"remove": 3, "joins": (2, 3), "across": 0.3, "within": 0.1}
    expected = torch.stack([video_by_hand(model, part, **options, name=name) for part in video])
    got = model.encode_video(video)
    assert torch.allclose(got, expected, atol=1e-5)
    assert not torch.allclose(got, build(Model("tiny"), 0).eval().encode_video(video), atol=1e-3)


@torch.no_grad()
def test_removing_nothing_is_the_baseline():
    video, baseline = smooth_videos(2, 6, 56), build(Model("tiny"), 0).eval()
    expected = baseline.encode_video(video)
    assert torch.equal(build(model_of("tome", remove=0), 0).eval().encode_video(video), expected)
    inside = tuple(Stage("tome", block, remove=0, inside=True, sees="keys", keep="weighted") for block in range(4))
    for proportional in (False, True):
        model = build(Model("tiny", stages=inside, proportional=proportional), 0).eval()
        assert torch.allclose(model.encode_video(video), expected, atol=1e-6)  # by the same sums in another order
    everything = build(Model("tiny", stages=(Stage("rlt", 0, options={"threshold": 0.0}),)), 0).eval()
    assert torch.allclose(everything.encode_video(video), expected, atol=1e-6)


def test_schedules_that_do_not_fit_are_one_line():
    for name, options, problem in [
        ("tome", {"remove": [1, 2]}, "remove: 2 numbers for 4 blocks"),
        ("tome", {"remove": (1, 2)}, "remove: 2 numbers for 4 blocks"),
        ("tempme", {}, "joins [2, 2, 3] do not go with 6 frames and 4 blocks"),
        ("tempme", {"joins": [2, 3], "share": 1}, "schedule tempme has no option 'share'; it has remove, joins"),
        ("other", {}, "schedule 'other' is not one of tome, pitome, tempme, evit"),
        ("evit", {"remove": [0.3]}, "remove: 1 numbers for 4 blocks"),
    ]:
        with pytest.raises(UserError) as error:
            schedules.stages(name, 4, 6, options)
        assert str(error.value).startswith(problem)


def test_evits_default_leaves_what_the_papers_keep_rate_leaves():
    """ceil(0.7 N) and the fused one, of 49 patches."""
    patches, left = 49, []
    for stage in schedules.stages("evit", 12, 12, {}):
        patches = stage.kept(patches, 1)
        left.append((stage.block, patches))
    assert left == [(3, 36), (6, 27), (9, 20)]


@pytest.mark.parametrize("clusters", [1, 3, 8, 12])
@pytest.mark.parametrize("kind", ["random", "tied", "equal"])
def test_evit_and_norm_keep_the_first_of_a_sorted_list(kind, clusters):
    scores = torch.rand(12, generator=torch.Generator().manual_seed(0))
    scores = {"random": scores, "tied": (4 * scores).floor(), "equal": torch.ones(12)}[kind]
    order = sorted(range(12), key=lambda i: (-scores[i].item(), i))
    stay = sorted(order[:clusters])
    (medoids,), (assignment,) = evit(torch.zeros(1, 12, 3), clusters, scores=scores[None])
    assert medoids.tolist() == stay
    assert assignment.tolist() == [stay.index(i if i in stay else order[clusters - 1]) for i in range(12)]
    (medoids,), (assignment,) = norm(scores[None, :, None] * torch.tensor([0.0, -1.0]), clusters)
    assert medoids.tolist() == stay
    assert assignment.tolist() == [max(sum(j <= i for j in stay) - 1, 0) for i in range(12)]


def linkage_by_loops(points, clusters):
    """Average linkage of points on a line, in exact fractions: the clusters, each ascending."""
    groups = [[i] for i in range(len(points))]

    def between(pair):
        one, other = (groups[place] for place in pair)
        return Fraction(sum(abs(points[i] - points[j]) for i in one for j in other), len(one) * len(other))

    while len(groups) > clusters:
        one, other = min(itertools.combinations(range(len(groups)), 2), key=lambda pair: (between(pair), pair))
        groups[one] = sorted(groups[one] + groups.pop(other))
    return groups


def clusters_of(assignment):
    return [[i for i, own in enumerate(assignment) if own == cluster] for cluster in range(max(assignment) + 1)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=12), st.data())
def test_average_linkage_of_ties_and_duplicates_is_the_loops(points, data):
    clusters = data.draw(st.integers(1, len(points)))
    medoids, assignment = hpool(torch.tensor(points)[None, :, None].float(), clusters, distance="euclidean")
    expected = linkage_by_loops(points, clusters)
    assert clusters_of(assignment[0].tolist()) == expected and medoids[0].tolist() == [group[0] for group in expected]


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_average_linkage_of_distinct_distances_is_scipys(distance):
    points = torch.randn(2, 60, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for clusters in (1, 2, 7, 20, 59, 60):
        _, assignment = hpool(points, clusters, distance=distance)
        for each, found in zip(points, assignment, strict=True):
            tree = scipy.cluster.hierarchy.linkage(each.numpy(), "average", distance)
            expected = torch.from_numpy(scipy.cluster.hierarchy.fcluster(tree, clusters, "maxclust"))
            assert torch.equal(found[:, None] == found, expected[:, None] == expected)


def dpc_by_loops(points, clusters, k):
    n, width = len(points), len(points[0])
    distance = [[math.dist(a, b) / math.sqrt(width) for b in points] for a in points]
    spread = [sum(d * d for d in sorted(row)[:k]) / k for row in distance]
    order = sorted(range(n), key=lambda i: (round(spread[i], 9), i))
    indicator = [max(map(max, distance))] * n
    for place, i in enumerate(order[1:], 1):
        indicator[i] = min(distance[i][j] for j in order[:place])
    score = [math.exp(-spread[i]) * indicator[i] for i in range(n)]
    medoids = sorted(sorted(range(n), key=lambda i: (-round(score[i], 6), i))[:clusters])
    nearest = [min(range(clusters), key=lambda c: (distance[medoids[c]][i], c)) for i in range(n)]
    return medoids, [medoids.index(i) if i in medoids else nearest[i] for i in range(n)]


@pytest.mark.parametrize("clusters", [1, 4, 9])
@pytest.mark.parametrize("kind", ["random", "duplicated", "constant"])
def test_density_peaks_are_the_loops(kind, clusters):
    points = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    points = {"random": points, "duplicated": points[torch.arange(30) // 3], "constant": torch.ones(30, 4)}[kind]
    medoids, assignment = dpc_knn(points[None], clusters)
    assert (medoids[0].tolist(), assignment[0].tolist()) == dpc_by_loops(points.tolist(), clusters, 5)


def test_random_tokens_are_the_same_in_evaluation_and_others_in_training():
    tokens = torch.zeros(6, 50, 1)
    medoids, _ = random_tokens(tokens, 10, segments=3)
    assert torch.equal(medoids, random_tokens(tokens, 10, segments=3)[0])
    assert torch.equal(medoids[:3], medoids[3:]) and not torch.equal(medoids[0], medoids[1])
    assert not torch.equal(medoids, random_tokens(tokens, 10, segments=3, seed=1)[0])
    assert not torch.equal(*(random_tokens(tokens, 10, segments=3, training=True)[0] for _ in range(2)))
    assert first_tokens(tokens[:1, :5], 2)[1].tolist() == [[0, 1, 1, 1, 1]]


class TestRunLength:
    def test_by_hand(self):
        """4 patches of 2 x 2 pixels: the second frame changes one by 0.2 and one by 0.1, the third none."""
        frames = torch.zeros(1, 3, 3, 4, 4)
        frames[:, 1:, :, :2, :2] = 0.2
        frames[:, 1:, :, 2:, 2:] = 0.1
        assert rlt(frames, 2, threshold=0.1).tolist() == [[[True] * 4, [True, False, False, False], [False] * 4]]
        assert rlt(frames[:, :1], 2).tolist() == [[[True] * 4]]
        frames[:, 1, 0, 0, 3] = torch.nan  # goes on, and is seen in the vector
        assert rlt(frames, 2)[0, :, 1].tolist() == [True, True, True]

    @torch.no_grad()
    def test_packed_frames_are_those_with_a_mask(self):
        video, threshold = smooth_videos(2, 6, 56), 0.17
        model = build(Model("tiny", stages=(Stage("rlt", 0, options={"threshold": threshold}),)), 0).eval()
        keep = rlt(video, 8, threshold=threshold)
        assert 0.1 < keep[:, 1:].float().mean() < 0.9  # so that the frames differ in length
        x = model.visual._embeds(video.flatten(0, 1))
        real = torch.nn.functional.pad(keep.flatten(0, 1), (1, 0), value=True)
        mask = torch.zeros(12, 50, 50).masked_fill(~real[:, None], -torch.inf).repeat_interleave(4, 0)
        for block in model.visual.transformer.resblocks:
            x = block(x, attn_mask=mask)
        frames = normalize(model.visual._pool(x)[0] @ model.visual.proj, dim=-1).view(2, 6, -1)
        assert torch.allclose(model.encode_video(video), normalize(frames.mean(1), dim=-1), atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_chunks_and_recomputed_activations_change_no_gradient(name):
    """And padded frames, of which two videos have two, pass none on."""

    def gradients(**runtime):
        mine = tiny_cell(model=METHODS[name])
        mine = replace(mine, training=replace(mine.training, frozen="none"), runtime=replace(mine.runtime, **runtime))
        run = Run(mine, CPU)
        run.model.train()
        frames, mask, ids = batch(0)
        mask[1:3, 4:] = False
        loss = backward(run, [frames, mask, ids], seed=3)
        return loss, {key: value.grad for key, value in run.model.named_parameters() if value.grad is not None}

    loss, whole = gradients()
    assert math.isfinite(loss) and all(value.isfinite().all() for value in whole.values())
    for runtime in ({"chunk": 1}, {"chunk": 3}, {"grad_checkpointing": True}):
        again, got = gradients(**runtime)
        assert again == pytest.approx(loss, rel=1e-5) and got.keys() == whole.keys()
        assert all(torch.allclose(got[key], whole[key], atol=1e-5) for key in whole)


@pytest.mark.parametrize("name", ["tempme", "random"])  # one learns vectors, one draws
def test_a_training_that_was_stopped_ends_at_equal_bytes(name, tmp_path):
    mine = tiny_cell(model=METHODS[name])
    straight, first, second = (run_in(tmp_path / place, mine) for place in ("straight", "stopped", "stopped"))
    straight.train_epoch(Twelve())
    first.stop()
    with pytest.raises(UserError, match="stopped"):
        first.train_epoch(Twelve())
    second.resume()
    assert second.progress["step"] == 1
    second.train_epoch(Twelve())
    weights = second.model.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in straight.model.state_dict().items())


@pytest.mark.slow
def test_two_processes_have_one_processs_loss_and_gradients(tmp_path):
    two_processes("methods", tmp_path)
    got = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for name, model in METHODS.items():
        run = Run(tiny_cell(model=model), CPU)
        loss = backward(run, batch(0), seed=0)
        for rank in (0, 1):
            assert got[rank][name].pop("loss") == pytest.approx(loss, rel=1e-6), name
            for key, gradient in got[rank][name].items():
                expected = run.model.get_parameter(key).grad
                assert (gradient - expected).abs().max() <= 1e-4 * expected.abs().max(), (name, key)


@torch.no_grad()
@pytest.mark.parametrize("name", ["tome", "pitome", "evit", "rlt"])
def test_what_acts_within_frames_does_not_see_padding(name):
    model, video = build(METHODS[name], 0).eval(), smooth_videos(2, 6, 56)
    mask = (torch.arange(6) < 4).expand(2, -1)
    assert torch.allclose(model.encode_video(video, mask), model.encode_video(video[:, :4]), atol=1e-6)


@torch.no_grad()
def test_only_real_frames_class_tokens_count_where_all_go_on(monkeypatch):
    model, video = build(METHODS["tempme"], 0).eval(), smooth_videos(1, 6, 56)
    vectors = []
    pool = OwnViT.pool
    monkeypatch.setattr(OwnViT, "pool", lambda *given: vectors.append(pool(*given)) or vectors[-1])
    got = model.encode_video(video, torch.arange(6)[None] < 4)
    assert vectors[0].shape == (1, 6, 64)
    each = normalize(vectors[0][0], dim=-1)
    assert torch.allclose(got[0], normalize(each[:4].sum(0), dim=0), atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("after", [False, True])
def test_a_mean_over_patches_is_of_as_many_as_tokens_stand_for(after, monkeypatch):
    """In a backbone that pools by average: one token of size 3 counts as three equal ones."""
    vision = backbones.TINY["vision_cfg"] | {"pool_type": "avg", "final_ln_after_pool": after}
    as_backbone(monkeypatch, backbones.TINY | {"vision_cfg": vision})
    tower = CenterCLIP("tiny", proportional=True).eval().tower
    x = torch.randn(1, 4, 64, generator=torch.Generator().manual_seed(0))
    expected = tower.pool(x[:, [0, 1, 2, 2, 2, 3]], 1)
    assert torch.allclose(tower.pool(x, 1, torch.tensor([[1.0, 1, 3, 1]])), expected, atol=1e-6)


class TestAModelThatOneHolds:
    @torch.no_grad()
    @pytest.mark.parametrize(
        ("method", "pool"),
        [("kmedoids", "tok"), ("kmedoids", "avg"), ("tome", "tok"), ("tome", "avg"), ("rlt", "tok")],
    )
    def test_it_encodes_as_ours_and_stays_as_it_is(self, method, pool, monkeypatch):
        vision = backbones.TINY["vision_cfg"] | {"pool_type": pool}
        as_backbone(monkeypatch, backbones.TINY | {"vision_cfg": vision})
        held = open_clip.CLIP(**backbones.model_config("tiny")).eval()
        before = {name: tensor.clone() for name, tensor in held.state_dict().items()}
        video = smooth_videos(2, 6, 56)
        options = {"kmedoids": {"segments": 2, "clusters": 49}, "tome": {"remove": 5}, "rlt": {"threshold": 0.17}}
        reduced = centerclip.reduce(held, method, frames=6, **options[method])
        ours = CenterCLIP("tiny", [stage.settings for stage in reduced.stages.values()], None, method == "tome").eval()
        plain = CenterCLIP("tiny").eval()
        for model in (ours, plain):
            model.load_state_dict(before)
        vectors = reduced.encode_video(video)
        assert torch.equal(vectors, ours.encode_video(video))
        assert not torch.allclose(vectors, plain.encode_video(video), atol=1e-3)
        ids = open_clip.SimpleTokenizer()(["a red circle"])
        assert torch.allclose(reduced.encode_text(ids), held.encode_text(ids, normalize=True), atol=1e-6)
        after = held.state_dict()
        assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)

    @pytest.mark.parametrize(
        ("method", "options", "problem"),
        [
            ("kmedoid", {}, "algorithm 'kmedoid' is not one of dpc_knn, "),
            ("kmedoids", {"segments": 5}, "segments 5 does not divide the 12 frames"),
            ("kmedoids", {"clusters": 0}, "segments 12, clusters 0: neither may be less than 1"),
            ("tome", {"r": 2}, "schedule tome has no option 'r'; it has remove"),
            ("kmedoids", {"remove": 2}, "kmedoids has no option 'remove'; it has distance, "),
            ("kmedoids", {"keep": "max"}, "keep 'max' is not one of medoid, mean, weighted, attention"),
            ("tome", {"remove": -1}, "remove -1 is neither a number of tokens from 0 nor a share below 1"),
            ("tome", {"remove": 2.0}, "remove 2.0 is neither a number of tokens"),
            ("tome", {"segments": 4}, "reduce: tome takes no segments"),
            ("rlt", {"keep": "mean"}, "reduce: rlt takes no keep"),
            ("spectral", {}, "reduce: spectral would keep all 49 tokens of a frame: give segments or clusters"),
        ],
    )
    def test_mistakes_are_one_line(self, method, options, problem):
        with pytest.raises(UserError, match=problem):
            centerclip.reduce(build(Model("tiny"), 0), method, **options)

    def test_what_is_not_a_model_of_known_towers_is_one_line(self):
        custom = backbones.TINY | {"vision_cfg": backbones.TINY["vision_cfg"] | {"qk_norm": True}}
        other = torch.nn.Module()
        other.visual = torch.nn.Linear(1, 1)
        for held, problem in (
            (other, "the video side is a Linear, not a ViT of"),
            (open_clip.CLIP(**custom), "the video side has open_clip's custom blocks"),
            ("ViT-B-32", "a str is not a model as open_clip.create_model returns it"),
            ((other, None), "a tuple is not a model"),
        ):
            with pytest.raises(UserError, match=f"^reduce: {problem}"):
                centerclip.reduce(held, "tome")

    @torch.no_grad()
    def test_poolings_means_are_kept_without_asking(self):
        held, video = build(Model("tiny"), 0).eval(), smooth_videos(1, 6, 56)
        for method in ("pooling", "hpool"):
            asked, default = (
                centerclip.reduce(held, method, segments=2, frames=6, **keep) for keep in ({"keep": "mean"}, {})
            )
            assert default.settings == asked.settings
        assert torch.equal(default.encode_video(video), asked.encode_video(video))


def test_the_bench_is_a_list_of_variants_of_every_benchmark_of_the_paper_and_not_in_its_all(tmp_path):
    config = read_config([])
    names = {"tome", "pitome", "tempme", "evit", "dpc_knn", "hpool", "rlt", "random", "norm"}
    assert names < set(config["lists"]["bench"])
    assert not any(names & set(config["benchmarks"][name]["variants"]) for name in config["run"]["benchmarks"])
    overlay = tmp_path / "bench.yaml"
    overlay.write_text("run: {variants: bench}")
    assert read_config([overlay])["run"]["variants"] == "bench"
    stages = cell(config, "activitynet", "tempme").model.stages
    assert [stage.segments for stage in stages if stage.segments] == [30, 15, 5]
