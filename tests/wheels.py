"""Whether every package that pyproject.toml pins has a wheel on other machines: a line for each, after uv has resolved
them for it. It needs a network, and says so where there is none.

    python tests/wheels.py
"""

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

PLATFORMS = ["x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin"]
PYTHONS = ["3.11", "3.12", "3.13"]
SOURCES = ["connection-pool"]  # pure Python, and published as source alone


def main() -> None:
    environment = os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"}
    sources = [word for name in SOURCES for word in ("--no-binary", name)]
    failed = False
    for platform, python in product(PLATFORMS, PYTHONS):
        target = ["--python-platform", platform, "--python-version", python, "--only-binary", ":all:", *sources]
        command = ["uv", "pip", "compile", "pyproject.toml", "--quiet", "--no-header", "--no-annotate", *target]
        done = subprocess.run(
            command, cwd=Path(__file__).parents[1], env=environment, capture_output=True, text=True, check=False
        )
        if "Failed to fetch" in done.stderr:
            print(f"not tried, as there is no network: {done.stderr.strip().splitlines()[-1].strip()}")
            return
        said = f"{len(done.stdout.splitlines())} packages" if done.returncode == 0 else done.stderr.strip()
        print(f"{platform}, Python {python}: {said}")
        failed |= done.returncode != 0
    sys.exit(failed)


if __name__ == "__main__":
    main()
