"""Short digests, by which jobs notice that something changed."""

import hashlib
import json


def digest(*parts: bytes) -> str:
    """16 hex digits that change with the bytes of `parts`, one after another."""
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def json_digest(*parts: object) -> str:
    """The digest of what json can say."""
    return digest(json.dumps(parts).encode())
