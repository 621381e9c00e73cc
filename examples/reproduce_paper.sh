#!/bin/sh
# Tables 1 and 2, section 4.5 and the figure of section 4.6 of the paper, ending in one report.
#
#   examples/reproduce_paper.sh smoke            minutes: every step runs, the numbers mean nothing
#   examples/reproduce_paper.sh laptop           a night on two cores: small networks on drawn clips
#   examples/reproduce_paper.sh full             days on GPUs: the paper's networks on the Fashion data set
#   examples/reproduce_paper.sh full TRAIN TEST  the same with other lists than the published ones
#
# Results are in paper-SIZE/ (or $OUT): report.html and report.md. A second run continues where the first stopped.
# STEPS and SEEDS override the training steps of each model and the seeds.
set -eu

SIZE=${1:?usage: examples/reproduce_paper.sh smoke|laptop|full [TRAIN TEST]}
OUT=${OUT:-paper-$SIZE}
HERE=$(cd "$(dirname "$0")/.." && pwd)
FASHIONFLOW=${FASHIONFLOW:-fashionflow}
PYTHON=${PYTHON:-$(dirname "$(command -v "$FASHIONFLOW")")/python}

case $SIZE in
smoke)
    CLIPS=6 TEST=4 PIXELS=64x64 FRAMES=16 STEPS=${STEPS:-2} SEEDS=${SEEDS:-0} WIDTHS=16,24,32
    BENCH="--narrow --latent-size 16x16 --frames 2 --steps 2 --repeats 2"
    ;;
laptop)
    CLIPS=400 TEST=16 PIXELS=192x128 FRAMES=32 STEPS=${STEPS:-2000} SEEDS=${SEEDS:-0 1 2} WIDTHS=24,48,96
    BENCH="--latent-size 16x16 --frames 8 --repeats 3"
    ;;
full)
    TRAIN=${2:-} TEST=${3:-} SEEDS=${SEEDS:-0}
    BENCH="--full"
    ;;
*)
    echo "$SIZE: not one of smoke, laptop, full" >&2
    exit 2
    ;;
esac
mkdir -p "$OUT"
cd "$OUT"

# Run a command unless its result exists; an interrupted one leaves none.
step() {
    result=$1
    shift
    if [ ! -e "$result" ]; then
        echo "== $result" >&2
        "$@"
    fi
}

if [ "$SIZE" = full ]; then
    "$FASHIONFLOW" data download fashion -o fashion --jobs 8 ${TRAIN:+--train-list "$TRAIN"} ${TEST:+--test-list "$TEST"}
    if [ ! -e base ]; then
        "$FASHIONFLOW" models pull base
        "$FASHIONFLOW" models new paper -o base
    fi
    "$FASHIONFLOW" data prepare fashion/train -o cache --model base --clips-per-video 4
    TEST_CLIPS=fashion/test
else
    "$FASHIONFLOW" data synth -o clips --clips $CLIPS --size $PIXELS --frames $FRAMES --seed 70
    "$FASHIONFLOW" data synth -o test --clips $TEST --size $PIXELS --frames $FRAMES --seed 71
    step start "$PYTHON" "$HERE/scripts/start_mini.py" clips -o start --size $PIXELS --frames $FRAMES
    "$FASHIONFLOW" data prepare clips -o cache --model start --strides 1 --dtype bf16
    TEST_CLIPS=test
fi

# Section 4.6: the same network and data, with one conditioner or both.
for seed in $SEEDS; do
    for kind in global local both; do
        run=runs/$kind-$seed
        [ -e "$run/model" ] && continue
        resume=$([ -e "$run/config.yaml" ] && echo --resume || true)
        if [ "$SIZE" = full ]; then
            "$FASHIONFLOW" train --set preset=paper --set base=base --set data.path=cache --set conditioning.kind=$kind \
                --set seed="$seed" ${STEPS:+--set schedule.max_steps="$STEPS"} -o "$run" $resume
        else
            half=$((FRAMES / 2))
            # Without a context there is no image encoder to train.
            [ $kind = local ] && encoder=false || encoder=true
            "$FASHIONFLOW" train --set preset=mini-latent --set base=start --set data.path=cache --set data.batch_size=2 \
                --set data.frames=$FRAMES --set data.short_frames=$half --set data.short_part=1 \
                --set conditioning.kind=$kind --set conditioning.context_dropout=0 --set train_image_encoder=$encoder \
                --set masks.generate=1 --set masks.interpolate=0 --set masks.extend=0 \
                --set unet.widths=$WIDTHS --set unet.time_dim=96 --set optimizer.lr=1.5e-3 --set optimizer.ema_decay=0.99 \
                --set schedule.max_minutes=0 --set schedule.max_steps="$STEPS" --set schedule.warmup_steps=30 \
                --set seed="$seed" --dtype bf16 -o "$run" $resume
        fi
    done
done

models=
for seed in $SEEDS; do
    for kind in global local both; do
        models="$models --model-$kind runs/$kind-$seed/model"
    done
done
first=${SEEDS%% *}
step ablation.json "$FASHIONFLOW" ablation $models --data "$TEST_CLIPS" --generated generated --report ablation -o ablation.json
step methods.json "$FASHIONFLOW" evaluate --model "runs/both-$first/model" --conditioning both --data "$TEST_CLIPS" --generated generated/both \
    --report methods -o methods.json
step speed.json "$FASHIONFLOW" bench dreampose $BENCH -o speed.json
"$PYTHON" "$HERE/scripts/paper_report.py" .
echo "$OUT/report.html"
