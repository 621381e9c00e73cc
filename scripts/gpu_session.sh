#!/usr/bin/env bash
# GPU session: train the bundled model further, score it, benchmark, run the GPU tests.
#
#   scripts/gpu_session.sh pack      here, once: the wheels that machine lacks, into .whl/ and .whl-av/ (ignored by git)
#   scripts/gpu_session.sh wheels    there, first: installs what was carried, for all later calls
#   scripts/gpu_session.sh remote    there, as often as calls are needed: starts the work in the background on the first
#                                    call, waits up to $WAIT seconds, and copies what is finished to $OUT
#   scripts/gpu_session.sh engines   there: exports, verifies and times engines of the bundled model
#   scripts/gpu_session.sh bench     there, or on any machine with a GPU: every suite of the bench, pictures and a profile, into
#                                    benchmarks/results/ (and $OUT), and from these the README's table
#   scripts/gpu_session.sh accept-bench DIR   here: the same from what the device tool brought back
#   scripts/gpu_session.sh dry-run   here: the whole of `remote` in miniature, on the CPU
#   scripts/gpu_session.sh accept DIR   here: take the weights in DIR, if they score better than the bundled ones
#
# The device tool's calls, each at once after the other (the machine goes back 30 s after a call): first `bash
# scripts/gpu_session.sh wheels` with carry [".whl-av"], then `bash scripts/gpu_session.sh remote` with carry [".whl"] and
# timeout_s 600, again until it prints "session: all done".
set -euo pipefail
cd "$(dirname "$0")/.."

MOTION_MINUTES=${MOTION_MINUTES:-12}   # of further training of mini, the motion model; the newest bundled model comes first
MOTION_CLIPS=${MOTION_CLIPS:-3000}
MOTION_BATCH=${MOTION_BATCH:-16}
LATENT=${LATENT:-}           # yes: also train mini-latent again
MINUTES=${MINUTES:-17}       # of its U-Net training
INTERPOLATOR_MINUTES=${INTERPOLATOR_MINUTES:-3}
DECODER_MINUTES=${DECODER_MINUTES:-2}
CLIPS=${CLIPS:-3000}
BATCH=${BATCH:-8}
LR=${LR:-1e-3}
FIGURES=${FIGURES:-16}
WAIT=${WAIT:-540}
WORK=${WORK:-/tmp/fashionflow-session}
PYTHON=${PYTHON:-python3}

pack() {
    # Only what is missing or older there, in the versions of the constraints file. With the
    # repository 64 MiB travel in a call, and PyAV alone has 36 MB: it goes first.
    fetch .whl diffusers transformers tokenizers huggingface_hub typer einops safetensors accelerate
    fetch .whl-av av
}

fetch() {
    local folder=$1 wanted=()
    shift
    for name in "$@"; do wanted+=("$(grep -E "^$name==" constraints.txt | cut -d' ' -f1)"); done
    mkdir -p "$folder"
    "${BIN:-.venv/bin}"/python -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 \
        --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
        --platform manylinux2014_x86_64 -d "$folder" "${wanted[@]}"
    du -sh "$folder"
}

install_wheels() {
    export PYTHONPATH="$PWD:$PWD/benchmarks"
    for folder in .whl-av .whl; do
        compgen -G "$folder/*.whl" > /dev/null || continue
        $PYTHON -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade \
            --target "$WORK/site" "$folder"/*.whl
    done
    if [ -d "$WORK/site" ]; then export PYTHONPATH="$WORK/site:$PYTHONPATH"; fi
}

work() {
    install_wheels
    local run="$WORK/run" model="$WORK/mini-latent"
    fashionflow() { $PYTHON -m fashionflow_cli.main "$@"; }
    mkdir -p "$WORK/results" "$run"
    fashionflow data synth --motion -o "$run/motion" --clips "$MOTION_CLIPS" --seed 1 --jobs "$(nproc)"
    fashionflow train --init-from mini --set preset=mini-motion --set data.path="$run/motion" --set name=mini \
        --set data.batch_size="$MOTION_BATCH" --set schedule.max_minutes="$MOTION_MINUTES" --set data.workers=8 -o "$run/motion-unet"
    cp -r "$run/motion-unet/model" "$WORK/mini"
    fashionflow bench video --model "$WORK/mini" -o "$WORK/results/bench-video-mini.json" || true
    if [ -n "$LATENT" ]; then work_latent "$run" "$model"; fi
    if $PYTHON -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
        measure "$WORK/results" || true
        $PYTHON -m pytest -q -m gpu tests | tee "$WORK/results/gpu-tests.txt" || true
    fi
    touch "$WORK/done"
}

work_latent() {
    local run=$1 model=$2
    fashionflow data synth -o "$run/clips" --clips "$CLIPS" --jobs "$(nproc)"
    $PYTHON scripts/start_mini.py "$run/clips" -o "$run/start"
    fashionflow data prepare "$run/clips" -o "$run/cache" --model "$run/start" --strides 1 --workers "$(nproc)"
    fashionflow train --set preset=mini-latent --set base="$run/start" --set data.path="$run/cache" --dtype bf16 -o "$run/unet" \
        --set data.batch_size="$BATCH" --set optimizer.lr="$LR" --set optimizer.ema_decay=0.999 --set schedule.max_minutes="$MINUTES" --set data.workers=4
    fashionflow train --init-from "$run/unet/model" --set preset=mini-latent-interpolator --set data.path="$run/cache" --dtype bf16 \
        --set data.batch_size="$BATCH" --set schedule.max_minutes="$INTERPOLATOR_MINUTES" --set data.workers=4 -o "$run/between"
    fashionflow train --set preset=mini-latent-decoder --set base="$run/between/model" --set data.path="$run/clips" \
        --set name=mini-latent --set schedule.max_minutes="$DECODER_MINUTES" --dtype bf16 -o "$run/last"
    cp -r "$run/last/model" "$model"
    $PYTHON scripts/score_bundled.py --model "$model" --figures "$FIGURES" --out "$WORK/results/bundled-scores.json"
    PYTHONPATH="$PYTHONPATH:scripts" $PYTHON scripts/score_interpolation.py --model "$model" --figures "$FIGURES" \
        --out "$WORK/results/interpolation-scores.json"
    $PYTHON -m fashionflow_cli.main bench step --model "$model" -o "$WORK/results/bench-step-mini.json"
}

measure() {
    # The cheap and the wanted suites first: the file is written again after each, so an end in between loses little.
    local plots=()
    mkdir -p "$1"
    if $PYTHON -c 'import matplotlib' 2> /dev/null; then plots=(--plots "${2:-$1/bench-gpu}"); fi
    $PYTHON -m fashionflow_cli.main bench step vae clip video dreampose backends batch scale memory \
        -o "$1/bench-gpu.json" "${plots[@]}" --overwrite
    $PYTHON scripts/profile_video.py --out "$1/profile-gpu.txt"
}

bench() {
    install_wheels
    measure benchmarks/results docs/img/bench-gpu
    $PYTHON scripts/fill_results.py
    if [ -n "${OUT:-}" ]; then
        cp benchmarks/results/bench-gpu.json benchmarks/results/profile-gpu.txt README.md "$OUT"/
        if [ -d docs/img/bench-gpu ]; then cp -r docs/img/bench-gpu "$OUT"/; fi
    fi
}

engines() {
    # ONNX and TensorRT-RTX of the bundled model, run where they were built for: states, errors and times. Needs the extras
    # onnx and trt-rtx (carried as wheels); what fails is written down and stops nothing.
    install_wheels
    local made="$WORK/engines" results="$WORK/results"
    fashionflow() { $PYTHON -m fashionflow_cli.main "$@"; }
    mkdir -p "$results"
    for dtype in fp32 fp16; do
        fashionflow export --onnx --trt --trt-flavor rtx --compute-capability current --dtype $dtype \
            -o "$made-$dtype" --json > "$results/engines-$dtype.json" || true
        fashionflow verify "$made-$dtype" --device cuda --json > "$results/engines-$dtype-cuda.json" || true
        fashionflow bench backends --model "$made-$dtype" --dtype $dtype --device cuda --backend torch --backend compiled \
            --backend onnxruntime --backend tensorrt -o "$results/bench-backends-$dtype.json" || true
    done
    $PYTHON -m pytest -q -m gpu tests/export/test_export_trt.py tests/runtimes/test_backend_runtimes.py | tee "$results/gpu-engines.txt" || true
}

collect() {
    # At most 8 files of 16 MiB come back: weights as one tar, cut into pieces that `accept` joins.
    for name in mini mini-latent; do
        [ -d "$WORK/$name" ] && tar -C "$WORK" -cf - "$name" | split -b 15M - "$OUT/$name.tar."
    done
    cp "$WORK"/results/*.json "$OUT"/ 2> /dev/null || true
    cp "$WORK"/log "$OUT"/log.txt
}

remote() {
    : "${OUT:?the device tool sets OUT}"
    mkdir -p "$WORK"
    if [ ! -f "$WORK/log" ]; then
        # A process session of its own outlives the call; everything else is killed when the call returns.
        setsid bash scripts/gpu_session.sh work > "$WORK/log" 2>&1 < /dev/null &
        echo $! > "$WORK/pid"
    fi
    local until=$((SECONDS + WAIT))
    while [ $SECONDS -lt $until ] && [ ! -f "$WORK/done" ] && kill -0 "$(cat "$WORK/pid")" 2> /dev/null; do sleep 2; done
    tail -n 40 "$WORK/log"
    collect
    if [ -f "$WORK/done" ]; then echo "session: all done"
    elif kill -0 "$(cat "$WORK/pid")" 2> /dev/null; then echo "session: still at work, call again at once"
    else echo "session: FAILED"; return 1; fi
}

accept() {
    local folder
    folder=$(mktemp -d)
    cat "$1"/mini.tar.* | tar -C "$folder" -xf -
    "${BIN:-.venv/bin}"/fashionflow generate examples/dress.jpg --model "$folder/mini" -o "$folder/dress.mp4"
    echo "look at $folder/dress.mp4, copy $folder/mini/. to fashionflow_core/assets/mini/, then: python scripts/score_motion.py"
    if compgen -G "$1/mini-latent.tar.*" > /dev/null; then
        cat "$1"/mini-latent.tar.* | tar -C "$folder" -xf -
        "${BIN:-.venv/bin}"/python scripts/score_bundled.py --model "$folder/mini-latent" --figures "$FIGURES"
        echo "compare with docs/concepts/mini-latent.md; to take it: cp -r $folder/mini-latent/. fashionflow_core/assets/mini-latent/"
    fi
}

case "${1:-}" in
    pack) pack ;;
    wheels) install_wheels ;;
    work) work ;;
    engines) engines ;;
    bench) bench ;;
    accept-bench)
        cp "${2:?the folder that the device tool filled}"/bench-gpu*.json benchmarks/results/
        if [ -d "$2/bench-gpu" ]; then cp -r "$2/bench-gpu" docs/img/; fi
        "${BIN:-.venv/bin}"/python scripts/fill_results.py
        ;;
    remote) remote ;;
    accept) accept "${2:?the folder that the device tool filled}" ;;
    dry-run)
        export WORK OUT MOTION_MINUTES=0.3 MOTION_CLIPS=4 MOTION_BATCH=1 LATENT=yes MINUTES=0.5 INTERPOLATOR_MINUTES=0.2 DECODER_MINUTES=0.1 CLIPS=6 BATCH=1 FIGURES=1 WAIT=1200 PYTHON=.venv/bin/python
        WORK=$(mktemp -d) OUT=$(mktemp -d)
        remote
        ls -l "$OUT"
        ;;
    *) sed -n '2,20p' "$0"; exit 2 ;;
esac
