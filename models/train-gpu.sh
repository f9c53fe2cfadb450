#!/bin/bash
# Trains `lite` on a machine with one NVIDIA GPU, many cores and little time, in stages that can be called on their own and
# beside each other:
#
#     models/train-gpu.sh people SHARED WORK MINUTES        synthetic people, as many as there is time for
#     models/train-gpu.sh clips  SHARED WORK MINUTES        clips in layers with the people there are, likewise
#     models/train-gpu.sh train  SHARED WORK MINUTES INIT [OPTION…]   trains from the averaged weights of INIT
#     models/train-gpu.sh all    SHARED WORK MINUTES INIT [OPTION…]   each of the three for a third of the time
#
# SHARED is a folder with train/ and models/. INIT is a checkpoint, or its averaged weights alone. Options go to
# matte_models.train, behind those below. What is there already is kept and gone on with. Unset, the variables are:
#
#     PYTHON=python3      with PyTorch, OpenCV, ONNX Runtime and Numba
#     PROCESSES           one less than there are cores
#     PEOPLE=$WORK/people folder of the people; others may lie there already (with numbers below FIRST)
#     FIRST=10000         number of the first person, and seed of the first folder of clips
#     SIZE=640x368        of the clips
#     ROOM=40             GB that clips may take; they lie in /dev/shm if that has more room, or else in WORK
#     CLIPS               folder of the folders of clips, if somewhere else
#     HELD_OUT            clips for validation
#     TRAIN_FOLDERS       more folders of clips to train on, apart by spaces
set -eu

stage=${1:?usage: train-gpu.sh people|clips|train|all SHARED WORK MINUTES [INIT [OPTION…]]}
shared=$(cd "${2:?SHARED is missing}" && pwd)
work=${3:?WORK is missing}
minutes=${4:?MINUTES are missing}
script=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
mkdir -p "$work"
work=$(cd "$work" && pwd)
# Paths stay those of the folder that this was called from.
export PYTHONPATH=$(dirname "$script")${PYTHONPATH:+:$PYTHONPATH}

python=${PYTHON:-python3}
processes=${PROCESSES:-$(($(nproc) > 1 ? $(nproc) - 1 : 1))}
people=${PEOPLE:-$work/people}
first=${FIRST:-10000}
seconds=$(awk "BEGIN { print int($minutes * 60) }")
size=${SIZE:-640x368}
export MATTE_SHARED=$shared OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

room_in() { df --output=avail -B1G "$1" 2>/dev/null | tail -n 1 | tr -d ' '; }
if [ -n "${CLIPS:-}" ]; then
    clips=$CLIPS
elif [ -d "$work/clips" ]; then
    clips=$work/clips
elif [ -d "/dev/shm/matte-clips" ] || [ "$(room_in /dev/shm || echo 0)" -gt "$(room_in "$work")" ]; then
    clips=/dev/shm/matte-clips
else
    clips=$work/clips
fi

begun=$(date +%s)
# For the background. People and clips are made beside a training, which comes first.
in_time() { exec nice -n 10 timeout --signal=TERM --kill-after=10 "$seconds" "$@"; }
trap 'kill $(jobs -p) 2>/dev/null; exit 143' TERM INT
# The status of a process that ran out of time is no failure, any other is.
all_of() {
    local failed=0 status pid
    for pid in "$@"; do
        status=0
        wait "$pid" || status=$?
        [ "$status" = 0 ] || [ "$status" = 124 ] || [ "$status" = 137 ] || failed=$((failed + 1))
    done
    [ "$failed" = 0 ] || echo "$stage: $failed of $# processes failed, see $work/logs" >&2
    [ "$failed" -lt $# ]
}
report() { echo "$stage: $1 after $(($(date +%s) - begun)) s"; }
count_of() { find "$1" -name "$2" 2>/dev/null | wc -l; }
clips_in() {
    local folder total=0
    for folder in "$@"; do
        total=$((total + $(cat "$folder/done" 2>/dev/null || echo 0)))
    done
    echo "$total"
}

case $stage in
people)
    mkdir -p "$people" "$work/logs"
    if [ ! -d "$work/makehuman" ]; then
        # Under its own name only when it is whole.
        rm -rf "$work/makehuman.tmp" && mkdir "$work/makehuman.tmp"
        # Not every machine has xz, but Python has it.
        "$python" -m tarfile -e "$shared/train/makehuman-cc0.tar.xz" "$work/makehuman.tmp"
        mv "$work/makehuman.tmp/makehuman" "$work/makehuman" && rmdir "$work/makehuman.tmp"
        report "unpacked makehuman"
    fi
    pids=()
    for i in $(seq 0 $((processes - 1))); do
        # Each compiles for itself: it takes as long as waiting for the first, and no two write one file.
        NUMBA_CACHE_DIR="$work/numba/$i" in_time "$python" -m matte_models.train.people "$people" --makehuman "$work/makehuman" \
            --start $((first + 1000 * i + 1)) --count 999 --tallest 600 > "$work/logs/people-$i.log" 2>&1 &
        pids+=($!)
    done
    status=0
    all_of "${pids[@]}" || status=1
    rm -f "$people"/*.tmp
    report "$(count_of "$people" '*.npz') people in $people"
    exit $status
    ;;
clips)
    mkdir -p "$clips" "$work/logs"
    # A clip has 24 frames of 11 bytes a pixel, less where nothing is before the target.
    room=${ROOM:-40}
    free=$(($(room_in "$clips") - 2 + $(du -s -B1G "$clips" | cut -f1)))
    [ "$free" -ge "$room" ] || room=$free
    most=$(awk "BEGIN { split(\"$size\", s, \"x\"); print int($room * 1e9 / (s[1] * s[2] * 24 * 11) / $processes) }")
    [ "$most" -gt 0 ] || { echo "clips: no room in $clips" >&2; exit 1; }
    echo "clips: up to $((most * processes)) in $clips"
    [ "$(count_of "$people" '*.npz')" -gt 0 ] || echo "clips: no people in $people" >&2
    pids=()
    for i in $(seq 0 $((processes - 1))); do
        # One folder each. What an earlier call left is gone on with, by the people there are now.
        done=$(cat "$clips/$i/done" 2>/dev/null || echo 0)
        [ "$done" -lt "$most" ] || continue
        with=()
        [ ! -d "$people" ] || with=(--people "$people")
        in_time "$python" -m matte_models.train.data "$clips/$i" --layers --size "$size" --hard 0.25 --seed $((first + i)) \
            --start "$done" --count $((most - done)) ${with[@]+"${with[@]}"} > "$work/logs/clips-$i.log" 2>&1 &
        pids+=($!)
    done
    status=0
    [ ${#pids[@]} = 0 ] || all_of "${pids[@]}" || status=1
    report "$(clips_in "$clips"/*) clips in $clips"
    exit $status
    ;;
train)
    init=${5:?INIT is missing}
    shift 5
    folders=(${TRAIN_FOLDERS:-})
    for folder in "$clips"/*/; do
        # Without a complete clip a folder cannot be read.
        [ ! -s "$folder/done" ] || folders+=("$folder")
    done
    [ ${#folders[@]} -gt 0 ] || { echo "train: no clips in $clips" >&2; exit 1; }
    report "$(clips_in "${folders[@]}") clips in ${#folders[@]} folders"
    # In the place of this shell, so that it gets its signals: asked to end, it saves what it has.
    exec "$python" -m matte_models.train "${folders[@]}" --device cuda --out "$work/run" --init "$init" --restart --bf16 \
        --minutes "$minutes" --decay-share 0.7 --clips 48 --frames 6 --width 400 --height 304 --rate 3e-4 --average 0.999 \
        --prior-rate 0.85 --seed-rate 0.35 --save-every 500 ${HELD_OUT:+--held-out "$HELD_OUT"} "$@"
    ;;
all)
    init=${5:?INIT is missing}
    shift 5
    third=$(awk "BEGIN { print $minutes / 3 }")
    "$script" people "$shared" "$work" "$third"
    "$script" clips "$shared" "$work" "$third"
    "$script" train "$shared" "$work" "$third" "$init" "$@"
    ;;
*)
    echo "train-gpu.sh: no stage $stage" >&2
    exit 2
    ;;
esac
