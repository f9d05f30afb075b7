"""With this directory on PYTHONPATH decord cannot be imported, as where it has no wheels."""

raise ModuleNotFoundError("No module named 'decord'", name="decord")
