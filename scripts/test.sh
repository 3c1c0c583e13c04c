#!/bin/sh
# Lint and tests. Extra arguments go to pytest.
set -eu
cd "$(dirname "$0")/.."
requirements=requirements-dev.txt
. scripts/environment.sh
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
exec "$PYTHON" -m pytest "$@"
