#!/bin/sh
# Lint and tests, a process for each core. Extra arguments go to pytest.
set -eu
cd "$(dirname "$0")/.."
requirements=requirements-dev.txt
. scripts/environment.sh
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
share_cores "$cores"
exec "$PYTHON" -m pytest --numprocesses "$cores" --dist worksteal "$@"
