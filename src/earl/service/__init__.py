"""Serving over HTTP: edits behind the OpenAI image API, verifiers behind its chat API, the editing page."""

from importlib.util import find_spec

from earl.errors import MissingExtraError

for _library in ("fastapi", "prometheus_client", "uvicorn"):
    if find_spec(_library) is None:
        raise MissingExtraError(f"serving needs {_library}: pip install 'earl-edit[serve]'")
