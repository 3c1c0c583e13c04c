# Sourced with $requirements set: leaves in $PYTHON a Python that meets that file.
# The active Python is taken if it fits, else a virtual environment in .venv, made if need be.

# Threads that wait must not spin: on a machine with few cores they would take the time of the data
# loading processes (measured on 2 busy cores: a training step is 5 to 10 times slower).
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"

# Give each of $1 processes that run side by side its share of the cores.
share_cores() {
    cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
    export OMP_NUM_THREADS=$((cores > $1 ? cores / $1 : 1))
}

PYTHON=${PYTHON:-}
for candidate in "$PYTHON" python3 python .venv/bin/python; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
    "$candidate" scripts/check_environment.py "$requirements" >/dev/null 2>&1 || continue
    PYTHON=$candidate
    return 0
done
base=${PYTHON:-python3}
"$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
    echo "error: Python 3.10 or newer is needed; name one with PYTHON=/path/to/python" >&2
    exit 2
}
echo "installing $requirements into .venv (torch with CUDA is about 5 GB) ..."
[ -x .venv/bin/python ] || "$base" -m venv .venv
PYTHON=.venv/bin/python
"$PYTHON" -m pip install --quiet --disable-pip-version-check -r "$requirements"
"$PYTHON" scripts/check_environment.py "$requirements"
