"""`--use-conda`, where `conda` is a stand-in: rules run in an environment made from environment.yml.

Whether conda can solve environment.yml needs conda and the network, and is not tested.
"""

import sys
from pathlib import Path

from conftest import REPOSITORY
from support.workflow import ENVIRONMENT, copy_repository, folder_overlay, snakemake, typed

CONDA = """#!/bin/bash
echo "$*" >> {base}/calls
case "$1 $2" in
  "info --json") echo '{{"conda_prefix": "{base}", "platform": "linux-64"}}' ;;
  "--version ") echo "conda 25.1.0" ;;
  "config --get") echo '{{"get": {{"channel_priority": "strict"}}}}' ;;
  "clean -y") ;;
  "env create")
    while [ "$1" != --file ]; do shift; done; cp "$2" {base}/environment
    while [ "$1" != --prefix ]; do shift; done; mkdir -p "$2/bin"
    printf '#!/bin/sh\\necho "$0 $*" >> {base}/run\\nexec {python} "$@"\\n' > "$2/bin/python"
    chmod +x "$2/bin/python" ;;
  *) echo "unexpected: conda $*" >&2; exit 1 ;;
esac
"""


def test_a_rule_runs_in_the_environment_of_environment_yml(tmp_path):
    base, videos = tmp_path / "conda", tmp_path / "videos"
    (base / "bin").mkdir(parents=True)
    (base / "bin/conda").write_text(CONDA.format(base=base, python=sys.executable))
    (base / "bin/conda").chmod(0o755)
    (base / "bin/activate").write_text('export PATH="$1/bin:$PATH"\n')
    videos.mkdir()
    (videos / "a.mp4").touch()
    (tmp_path / "captions.csv").write_text("video,caption\na.mp4,grey\n")
    overlay = folder_overlay(videos, tmp_path / "captions.csv", 0)
    repository = copy_repository(tmp_path / "repository", overlay)
    environment = ENVIRONMENT | {"PATH": f"{base}/bin:{ENVIRONMENT['PATH']}"}
    target = "results/mine/manifest.csv"
    for _ in range(2):  # the second time in the environment that is there
        (repository / target).unlink(missing_ok=True)
        done = snakemake(repository, "--use-conda", target, env=environment)
        assert done.returncode == 0, done.stderr
        assert "a.mp4" in (repository / target).read_text()
    calls = (base / "calls").read_text().splitlines()
    (create,) = (call for call in calls if call.startswith("env create"))
    prefix = Path(create.split("--prefix ")[1])
    assert (base / "environment").read_text() == (REPOSITORY / "environment.yml").read_text()
    assert prefix.is_relative_to(repository / ".snakemake/conda")
    ran = (base / "run").read_text().splitlines()
    assert [line.split()[:4] for line in ran] == 2 * [[f"{prefix}/bin/python", "-m", "centerclip", "manifest"]]
    done = typed(repository, "snakemake --cores 8 --use-conda all --dry-run", environment)
    assert done.returncode == 0, done.stderr
