"""The workflow on data of its own: folders, servers, weights, other directories."""

import io
import json
import os
import pickle
import re
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from support.server import serving
from support.videos import make_video
from support.workflow import (
    ENVIRONMENT,
    SMALL,
    SNAKEMAKE,
    copy_repository,
    folder_overlay,
    jobs,
    snakemake,
)

from centerclip.backbones import TINY
from centerclip.backbones.clip import build
from centerclip.method.stage import Model

REPORT = "results/shapes/frames/56px/report.csv"


def test_in_another_directory(tmp_path):
    repository = copy_repository(tmp_path / "repository", SMALL)
    done = snakemake(repository, "--directory", str(tmp_path / "elsewhere"), REPORT)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "elsewhere" / REPORT).exists() and not (repository / "results").exists()


def test_as_a_module_of_another_workflow(tmp_path):
    repository, other = copy_repository(tmp_path / "repository", SMALL), tmp_path / "other"
    (other / "workflow").mkdir(parents=True)
    (other / "workflow/Snakefile").write_text(
        "configfile: 'config.yaml'\n"
        f"module centerclip:\n    snakefile: '{repository}/Snakefile'\n    config: config\n"
        "use rule * from centerclip as centerclip_*\n"
        f"rule mine:\n    default_target: True\n    input: '{REPORT}'\n    output: 'mine.txt'\n"
        "    shell: 'cp {input} {output}'\n"
    )
    files = [yaml.safe_load((repository / name).read_text()) for name in ("config/config.yaml", "config/demo.yaml")]
    (other / "config.yaml").write_text(yaml.safe_dump(files[0]))
    (other / "demo.yaml").write_text(yaml.safe_dump(files[1]))
    (other / "small.yaml").write_text(yaml.safe_dump(SMALL))
    command = [*SNAKEMAKE, "--cores", "2", "--configfile", "config.yaml", "demo.yaml", "small.yaml"]
    done = subprocess.run(command, cwd=other, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (other / "mine.txt").read_text() == (other / REPORT).read_text()


def test_published_weights_are_made_once_and_others_make_a_cell_anew(tmp_path):
    """Out of a cache of Hugging Face's, without a network."""
    cache, model = tmp_path / "hub/models--org--name", build(Model("tiny"), 3).state_dict()
    (cache / "refs").mkdir(parents=True)
    (cache / "refs/main").write_text("0")
    (cache / "snapshots/0").mkdir(parents=True)
    (cache / "snapshots/0/open_clip_config.json").write_text(json.dumps({"model_cfg": TINY}))
    save_file(model, cache / "snapshots/0/open_clip_model.safetensors")
    repository = copy_repository(tmp_path / "repository", SMALL | {"weights": {"tiny": "hf-hub:org/name"}})
    assert jobs(repository, "results/shapes_zeroshot.json")["pretrained_weights"] == 1
    made, offline = (
        "results/weights/tiny/hf-hub:org/name.safetensors",
        {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
    )
    done = snakemake(repository, made, env=ENVIRONMENT | offline)
    assert done.returncode == 0, done.stderr
    assert all(torch.equal(load_file(repository / made)[name], tensor) for name, tensor in model.items())
    assert "pretrained_weights" not in jobs(repository, "results/shapes_zeroshot.json")
    (repository / "small.yaml").write_text(yaml.safe_dump(SMALL | {"weights": {"tiny": "hf-hub:org/other"}}))
    assert jobs(repository, "results/shapes_zeroshot.json")["pretrained_weights"] == 1
    done = snakemake(repository, "results/weights/tiny/hf-hub:org/other.safetensors", env=ENVIRONMENT | offline)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "error: weights hf-hub:org/other: open_clip cannot get them (" in done.stderr


def test_a_folder_of_ones_own_videos(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(3):
        make_video(videos / f"{number}.mp4", count=10 + 10 * number)
    (videos / "broken.mp4").write_text("not a video")
    captions = tmp_path / "captions.csv"
    captions.write_text(f"video,caption\n0.mp4,grey\n1.mp4,{'grey ' * 31}\n2.mp4,\nbroken.mp4,lost\n")
    repository = copy_repository(tmp_path / "repository", folder_overlay(videos, captions, 0.01))
    done = snakemake(repository, "results/mine_zeroshot.json")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "1 of 4 videos (25.0%) gave no frame, more than the 1.0% that max_unreadable_share allows" in done.stderr
    assert "broken.mp4: not a video: " in done.stderr
    (repository / "small.yaml").write_text(yaml.safe_dump(folder_overlay(videos, captions, 0.3)))
    done = snakemake(repository, "results/mine_zeroshot.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((repository / "results/mine_zeroshot.json").read_text())
    assert (result["n_texts"], result["n_videos"]) == (2, 3)  # the third video has no caption: a candidate only
    assert (result["n_texts_left_out"], result["n_videos_left_out"]) == (1, 1)
    assert result["n_texts_cut"] == 1  # of 33 tokens with the start and end marks, where 32 are read


@pytest.mark.soak
def test_a_video_repaired_replaced_or_deleted_after_a_run_is_noticed(tmp_path):
    """By the command that made the results, and only by what sees that video. Braces in a path change nothing."""
    videos = tmp_path / "{x}"
    videos.mkdir()
    names = [f"{number}.mp4" for number in range(6)]
    for number, name in enumerate(names):
        make_video(videos / name, count=10 + 2 * number)
    (videos / names[0]).write_text("not a video")
    captions = videos / "captions.csv"
    captions.write_text("video,caption\n" + "".join(f"{name},grey {name}\n" for name in names))
    repository = copy_repository(tmp_path / "repository", folder_overlay(videos, captions, 0.01))
    target = "results/mine_zeroshot.json"
    assert "1 of 6 videos (16.7%) gave no frame" in snakemake(repository, target).stderr
    make_video(videos / names[0], count=10)
    assert snakemake(repository, target).returncode == 0
    assert jobs(repository, target) == {}
    shown = {"frames": 1, "frames_report": 1, "evaluate": 1, "result": 1}
    for change, frames in ((lambda path: make_video(path, count=40), 12), (lambda path: make_video(path, count=10), 3)):
        change(videos / names[3])
        os.utime(videos / names[3], (1, 1))  # older than all that was made of it
        assert jobs(repository, target) == shown
        assert snakemake(repository, target).returncode == 0
        report = pd.read_csv(repository / "results/mine/frames/56px/report.csv").set_index("video_id")
        assert report["frames"][names[3]] == frames and (report["frames"] > 0).all()
        assert jobs(repository, target) == {}
    (videos / names[5]).unlink()
    assert jobs(repository, target) == shown
    assert f"{names[5]}: no such file" in snakemake(repository, target).stderr
    captions.write_text(captions.read_text().replace("grey 1", "greyer 1"))
    os.utime(captions, (1, 1))
    assert jobs(repository, target)["manifest"] == 1


def test_a_folder_of_real_clips_good_and_broken(shared_clips, tmp_path):
    overlay = folder_overlay(shared_clips, shared_clips / "manifest.csv", 0.2, columns={"video": "file"})
    repository = copy_repository(tmp_path, overlay)
    done = snakemake(repository, "results/mine_zeroshot.json")
    assert done.returncode == 0, done.stderr
    report = pd.read_csv(repository / "results/mine/frames/56px/report.csv", keep_default_na=False)
    bad = report[report["frames"] == 0].set_index("video_id")["reason"].to_dict()
    assert bad == {
        "moviepy__result.webm": "empty file (0 bytes)",
        "exoplayer__invalid-bitstream.webm": "no frame decodes",
        "exoplayer__sample_opus.mp4": "no video stream",
    }
    result = json.loads((repository / "results/mine_zeroshot.json").read_text())
    assert (result["n_videos"], result["n_videos_left_out"]) == (len(report) - 3, 3)
    assert result["n_texts"] == (pd.read_csv(shared_clips / "manifest.csv")["caption"].notna()).sum()


def tiny_msvd(videos: int) -> dict[str, bytes]:
    """The archives of an MSVD of a few short videos, by their paths on a server: one is missing, one no video."""
    names = [f"v{number}_0_1" for number in range(videos)]
    annotations, archive = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(annotations, "w") as file:
        file.writestr("raw-captions.pkl", pickle.dumps({name: [["grey", name], ["red"]] for name in names}, protocol=2))
        file.writestr("train_list.txt", "\n".join(names[:-3]))
        file.writestr("val_list.txt", names[-3])
        file.writestr("test_list.txt", "\n".join(names[-2:]))
    with tempfile.TemporaryDirectory() as directory, tarfile.open(fileobj=archive, mode="w") as tar:
        for number, name in enumerate(names[1:]):
            video = make_video(Path(directory) / "v.avi", count=10 + number, codec="mpeg4")
            tar.add(video, f"YouTubeClips/{name}.avi")
        (Path(directory) / "v.avi").write_text("not a video")
        tar.add(Path(directory) / "v.avi", f"YouTubeClips/{names[0]}.avi")
    return {"/msvd_data.zip": annotations.getvalue(), "/YouTubeClips.tar": archive.getvalue()}


@pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="this Python unpacks no tar safely")
def test_a_published_benchmark_from_its_servers_and_one_that_cannot_be_had(tmp_path):
    counts = {split: {"videos": n, "captions": 2 * n} for split, n in (("train", 5), ("val", 1), ("test", 2))}
    overlay = {
        "run": {"benchmarks": ["lsmdc", "msvd"], "variants": ["zeroshot"], "full_size": False, "costs": False},
        "benchmarks": {
            "msvd": {
                "counts": counts, "frames": 6, "shards": 2, "max_unreadable_share": 0.2,
                "stage": {"block": 2, "segments": 2, "clusters": 49},
            },
            "lsmdc": {"stage": {"block": 2}},
        },
    }  # fmt: skip
    repository = copy_repository(tmp_path, overlay)
    with serving(tiny_msvd(8)) as server:
        table = (repository / "config/sources.csv").read_text()
        urls = r"https://\S*?/(YouTubeClips.tar|msvd_data.zip),[^,]*"
        table = re.sub(urls, rf"{server.url}/gone,{server.url}/\1", table)
        table = re.sub("7811915,git:[0-9a-f]*", ",", table)  # of the real captions
        (repository / "config/sources.csv").write_text(table)
        without = ENVIRONMENT | {"LSMDC_USER": "", "LSMDC_PASSWORD": ""}
        done = snakemake(repository, "--keep-going", "all", env=without)
        assert done.returncode != 0 and "Traceback" not in done.stderr
        assert "lsmdc: set LSMDC_USER and LSMDC_PASSWORD, or name local" in done.stderr.split("Job stats")[0]
        result = json.loads((repository / "results/msvd_zeroshot.json").read_text())
        assert (result["n_texts"], result["n_videos"], result["n_videos_left_out"]) == (4, 2, 0)
        report = pd.read_csv(repository / "results/msvd/frames/56px/report.csv")
        assert report["video_id"].nunique() == 2  # nothing that runs reads the other splits
        assert (repository / "results/tables/msvd.md").exists()
        assert "| msvd        | tiny " in (repository / "results/tables/summary.partial.md").read_text()
        assert not (repository / "results/lsmdc/source").exists()
        asked = len(server.requests)
        told = snakemake(repository, "--dry-run", "results/tables/msvd.md", env=without)
        assert "Nothing to be done" in told.stdout + told.stderr
        assert "lsmdc" not in told.stdout + told.stderr  # which that target does not need
        overlay["benchmarks"]["msvd"]["counts"]["test"]["captions"] = 5
        (repository / "small.yaml").write_text(yaml.safe_dump(overlay))
        done = snakemake(repository, "results/msvd_zeroshot.json")
        assert "error: benchmark msvd: 4 captions in split test, where 5 are expected" in done.stderr
        assert len(server.requests) == asked
