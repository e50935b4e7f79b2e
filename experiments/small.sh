#!/usr/bin/env bash
# The start of the comparison: a policy of the smaller world, from random weights, that copies images and finds
# what words name, and was never taught an edit by reinforcement. Goes on where it was cut off.
# On one core: data 3 minutes, copying some 10, reading some 25.
set -euo pipefail
cd "$(dirname "$0")/.."
R="${OUT:-runs/small}"
FAMILIES=(add remove replace color background)
prepare() { [ -e "$R/$1/card.json" ] || earl prepare world --vision world --kinds few -o "$R/$1" --families "${FAMILIES[@]}" "${@:2}"; }
prepare simple --sources 6000
prepare validation --split validation --sources 200
stage() { [ -e "$R/$1/model/earl.json" ] || earl train sft "recipes/world/$1.toml" "run.folder=$R/$1" "data.validation=$R/validation" run.threads=1 "${@:2}"; }
stage base model.vision_tokenizer=world model.text_tokenizer=world "data.sources.world.path=$R/simple"
stage read "model.start=$R/base/model" "data.sources.few.path=$R/simple" neighbour_smoothing.neighbours=24
