#!/usr/bin/env bash
# The world's policy taught people's language further, from the shipped one: data, training, weights, figures.
# Shards and models that are there are kept. Training saves every five minutes; START=runs/world/language-taught
# SEED=1 goes on from what was saved, with other draws. How the shipped one was taught: docs/lab-notes/language.md
# (it began with new_words.py and add_layers.py, and its teacher was the policy before).
#
#   recipes/world/language.sh                 # all of it into runs/world
#   MINUTES=480 recipes/world/language.sh     # of training, over which the learning rate falls
#   START=FOLDER recipes/world/language.sh    # go on from a policy that has the words already
#
# On one idle core: data 8 minutes, an update about 1.3 s, with images or with texts. `earl train sft
# recipes/world/language.toml` is the same without teacher and exercises (docs/lab-notes/language.md).
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1000000000
R=runs/world
MINUTES="${MINUTES:-240}" RATE="${RATE:-1e-3}" TEMPERATURE="${TEMPERATURE:-0.21}" SEED="${SEED:-0}"

prepare() { earl prepare world --vision world --reasoning plan -o "$R/$1" "${@:2}"; }
prepare validation --split validation --sources 512 --edits 2 --first-seed 900000
prepare solids --sources 6144 --first-seed 200000 --families add remove replace color size texture
prepare globals --sources 3072 --edits 2 --first-seed 300000 --families background style
prepare complex --sources 8192 --first-seed 400000 \
  --families count relation move between open roll topple gather swap stack double
prepare pairs --sources 3072 --edits 2 --first-seed 500000 --families double replace
prepare other --sources 2048 --edits 1 --first-seed 600000 --families other

# where it starts, and its teacher: the shipped policy, the sampling temperature that its weights have folded in
# taken out (1 / 0.21)
[ -e "$R/language-start" ] || earl convert world "$R/language-start" --temperature 4.761904762 --dtype float32

python recipes/world/teach_words.py "${START:-$R/language-start}" "$R/language-taught" \
  "$R"/{solids,globals} "$R/complex=1.2" "$R/pairs=1.5" "$R/other=2.5" \
  --teacher "$R/language-start" --minutes "$MINUTES" --rate "$RATE" \
  --plans 0.85 --alone 0.4 --drawings 0.35 --seed "$SEED" --compile

earl convert "$R/language-taught" "$R/language-policy" --temperature "$TEMPERATURE" --dtype bfloat16 --force
for wordings in own mixed heldout pairs constructions unseen other; do
  earl evaluate world --model "$R/language-policy" --num 500 --seed 0 --greedy --option wordings="$wordings"
done
earl evaluate world --model "$R/language-policy" --num 500 --seed 0 --greedy --option wordings=own --split heldout
