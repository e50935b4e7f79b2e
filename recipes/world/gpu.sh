#!/usr/bin/env bash
# Ten minutes of one GPU: the tests that need one, the 8.5 B benchmark, then the world's policy taught people's
# words until the time is up, as it is and with twelve layers. Figures and weights are written as they come.
#
#   recipes/world/gpu.sh                       # into out/gpu
#   MINUTES=20 OUT=FOLDER recipes/world/gpu.sh
#   SHARDS=FOLDER recipes/world/gpu.sh         # shards prepared beforehand (solids, globals, complex, other; --reasoning plan)
#   DEVICE=cpu SCALE=tiny MINUTES=0.1 recipes/world/gpu.sh   # the same steps on a CPU, in a minute or two
#
# OUT then holds tests.txt, gpu.md and gpu.json, deep/ and deeper/ (policies), evaluation-*.txt, times.txt.
set -euo pipefail
cd "$(dirname "$0")/../.."
OUT="${OUT:-out/gpu}" MINUTES="${MINUTES:-10}" DEVICE="${DEVICE:-cuda}" SCALE="${SCALE:-8b}"
SHARDS="${SHARDS:-$OUT/shards}" CORES="${CORES:-$(nproc)}"
[ "$SCALE" = tiny ] && SOURCES=8 NUM=4 || { SOURCES=4096 NUM=500; }
mkdir -p "$OUT"
begun=$(date +%s)
mark() { echo "$(($(date +%s) - begun)) s: $*" | tee -a "$OUT/times.txt"; }
# what is left of the time, in minutes, times a share
left() { awk -v m="$MINUTES" -v b="$begun" -v n="$(date +%s)" -v s="$1" 'BEGIN { x = (m - (n - b) / 60) * s; print (x > 0.02) ? x : 0.02 }'; }

if [ "$DEVICE" != cpu ]; then
  python -m pytest -q -k cuda tests 2>&1 | tail -n 40 > "$OUT/tests.txt" || true
  mark "tests: $(tail -n 1 "$OUT/tests.txt")"
fi
python -m benchmarks.gpu --size "$SCALE" --device "$DEVICE" --out "$OUT"
mark "benchmark in $OUT/gpu.md"

prepare() { # kept where it is there already
  [ -e "$SHARDS/$1/card.json" ] || earl prepare world --vision world --reasoning plan --device "$DEVICE" \
    --workers "$((CORES - 1))" -o "$SHARDS/$1" --sources "$SOURCES" --first-seed "$2" --families "${@:3}"
}
prepare solids 200000 add remove replace color size texture
prepare complex 400000 count relation move between open roll topple gather swap stack double
prepare globals 300000 background style
prepare other 600000 other
mark "shards in $SHARDS"

earl convert world "$OUT/teacher" --temperature 4.761904762 --dtype float32 --force
teach() { # NAME, what it starts from, share of the time that is left
  python recipes/world/teach_words.py "$2" "$OUT/$1" "$SHARDS/solids" "$SHARDS/complex=1.2" "$SHARDS/globals" \
    "$SHARDS/other" --teacher "$OUT/teacher" --device "$DEVICE" --batch 128 --rate 1.5e-3 \
    --plans 0.85 --alone 0.4 --drawings 0.35 --minutes "$(left "$3")" | tee "$OUT/$1.log"
  earl convert "$OUT/$1" "$OUT/$1-policy" --temperature 0.21 --dtype bfloat16 --force
  for wordings in own mixed; do
    earl evaluate world --model "$OUT/$1-policy" --device "$DEVICE" --num "$NUM" --seed 0 --greedy \
      --option wordings="$wordings" > "$OUT/evaluation-$1-$wordings.txt"
  done
  mark "$1 taught and measured"
}
earl convert "${START:-$OUT/teacher}" "$OUT/start" --vision world --dtype float32 --force
python recipes/world/add_layers.py "$OUT/start" "$OUT/grown" --layers 12
teach deep "$OUT/start" 0.4
teach deeper "$OUT/grown" 0.8
