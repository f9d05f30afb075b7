"""Run the workflow with the oldest Snakemake that the Snakefile admits: one cell of a small config, then nothing more.

python tests/oldest_snakemake.py    # installs that Snakemake into an environment of its own beside this one's packages
"""

import re
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

from support.workflow import ENVIRONMENT, REPOSITORY, SMALL, copy_repository

TARGET = "results/shapes_kmedoids.json"


def main() -> None:
    floor = re.search(r'min_version\("([\d.]+)"\)', (REPOSITORY / "Snakefile").read_text())[1]
    with tempfile.TemporaryDirectory() as directory:
        environment = Path(directory) / "environment"
        venv.create(environment, with_pip=True)
        python = environment / "bin/python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", f"snakemake=={floor}"], check=True)
        packages = sysconfig.get_path("purelib", vars={"base": environment})
        Path(packages, "others.pth").write_text(sysconfig.get_path("purelib"))  # after its own
        repository = copy_repository(Path(directory) / "repository", SMALL)
        command = [python, "-m", "snakemake", "--configfile", "config/demo.yaml", "small.yaml", "--cores", "2", TARGET]
        subprocess.run(command, cwd=repository, env=ENVIRONMENT, check=True)
        again = subprocess.run([*command, "--dry-run"], cwd=repository, env=ENVIRONMENT, capture_output=True, text=True)
    print(f"Snakemake {floor}: the cell was made")
    sys.exit(None if "Nothing to be done" in again.stdout + again.stderr else "but a second run would make it again")


if __name__ == "__main__":
    main()
