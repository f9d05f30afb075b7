"""With this directory on PYTHONPATH torchcodec cannot be imported, as where it is not installed."""

raise ModuleNotFoundError("No module named 'torchcodec'", name="torchcodec")
