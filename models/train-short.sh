#!/bin/sh
# From nothing to a trained package of `lite` in one command: a Python environment, synthetic people, clips, a short
# training and the package. It shows that all steps work together; a useful network takes hours (README of
# matte_models/train).
#
#     MATTE_SHARED=/path/to/material models/train-short.sh WORK [STEPS]
#
# WORK is a folder with some 10 GB free (PyTorch's wheels are most of it). Environment, people and clips that are there
# already are kept; the training begins anew. STEPS is 60 when left out.
set -eu

work=${1:?usage: train-short.sh WORK [STEPS]}
steps=${2:-60}
shared=${MATTE_SHARED:?MATTE_SHARED names the folder of the training material}
models=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work"
work=$(cd "$work" && pwd)

if [ ! -x "$work/venv/bin/python" ]; then
    python3 -m venv "$work/venv"
fi
"$work/venv/bin/pip" install --quiet --editable "$models[people]"
python() { "$work/venv/bin/python" -m "$@"; }

if [ ! -d "$work/makehuman" ]; then
    tar -xJf "$shared/train/makehuman-cc0.tar.xz" -C "$work"
fi
python matte_models.train.people "$work/people" --makehuman "$work/makehuman" --count 4
export MATTE_SHARED="$shared"
python matte_models.train.data "$work/a" --seed 21 --count 12
python matte_models.train.data "$work/c" --seed 23 --count 12 --people "$work/people"
python matte_models.train.data "$work/l" --layers --seed 71 --count 8 --people "$work/people"
python matte_models.train.data "$work/held_out" --held-out --seed 2 --count 4

python matte_models.train "$work/a" "$work/c" "$work/l" --held-out "$work/held_out" --out "$work/run" \
    --clips 3 --frames 3 --ahead 0 --steps "$steps" --save-every 50
# Without 8-bit integers: so young a network does not bear them, and the export would say so and stop.
python matte_models.export_lite "$work/run/last.pt" "$work/package" --version 0.0.1
echo "trained for $steps steps: $work/run/log.jsonl, $work/package"
