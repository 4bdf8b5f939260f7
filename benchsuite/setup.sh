#!/bin/sh
# Makes the git-ignored environment .venv-bench with the peers that benchsuite/engines.py measures.
#
# Needs Python 3.11 or newer and pip; takes about 5 minutes and 8 GB of disk. Most of that is CUDA libraries: the Linux
# x86-64 wheel of torch on PyPI is linked against them and does not import without them, although nothing here uses a
# GPU. Those who can reach PyTorch's own CPU index may install the small wheel instead:
#     TORCH_INDEX=<address of the CPU index> benchsuite/setup.sh
# Safe to repeat.
set -eu

cd "$(dirname "$0")/.."
venv="${VENV:-.venv-bench}"
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
pip="$venv/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir"

$pip --requirement benchsuite/requirements.txt
if [ -n "${TORCH_INDEX:-}" ]; then
    $pip --index-url "$TORCH_INDEX" torch==2.15.0
else
    $pip torch==2.15.0
fi
"$venv/bin/python" benchsuite/engines.py --versions
