#!/usr/bin/env bash
# The world's model from nothing, stage by stage: run it in the repository's root.
# Each command goes on where it was cut off. What each stage is for: docs/training.md, docs/world.md.
set -euo pipefail

earl train tokenizer recipes/world/tokenizer.toml
earl train tokenizer recipes/world/decoder.toml
earl prepare text --vision runs/world/decoder/model --out runs/world/text --size 512
earl prepare world --vision runs/world/decoder/model --out runs/world/few --sources 3000 --kinds few --families add remove replace color background style
earl prepare world --vision runs/world/decoder/model --out runs/world/simple --sources 10000 --families add remove replace color size texture background style
earl prepare world --vision runs/world/decoder/model --out runs/world/complex --sources 5000 --first-seed 20000 --families count relation double between gather move stack swap open roll topple
earl prepare world --vision runs/world/decoder/model --out runs/world/solids --sources 10000 --first-seed 60000 --families add remove replace color size texture
earl prepare world --vision runs/world/decoder/model --out runs/world/swaps --sources 6000 --first-seed 400000 --families replace remove
earl prepare world --vision runs/world/decoder/model --out runs/world/deeds --sources 4000 --first-seed 500000 --families count relation between move open roll topple
earl prepare world --vision runs/world/decoder/model --out runs/world/validation --split validation --sources 300 --families add remove replace color size texture background style
earl train sft recipes/world/base.toml
earl train sft recipes/world/read.toml
earl train sft recipes/world/wide.toml
earl train sft recipes/world/cover.toml
earl train sft recipes/world/edits.toml
earl train sft recipes/world/more.toml
earl convert runs/world/more/model runs/world/sharp --temperature 0.7
earl train grpo recipes/world/grpo.toml model.start=runs/world/sharp
earl evaluate world --num 500 --model runs/world/grpo/model
