import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared_clips() -> Path:
    """A directory of real video clips with its manifest.csv, where there is one."""
    directory = Path(os.environ.get("CENTERCLIP_SHARED", REPOSITORY.parent / "shared")) / "clips"
    if not directory.is_dir():
        pytest.skip(f"no real clips in {directory} (set CENTERCLIP_SHARED)")
    return directory
