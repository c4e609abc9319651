#!/usr/bin/env bash
# venv.sh LOCK.txt: prints the path of a virtual environment that holds exactly what LOCK.txt says, making it if need be.
#
# Environments live in the build cache under the hash of their lock file and Python, so that clones and branches with
# the same lock share one. An environment counts only once its stamp is there: one that was interrupted is made anew.
# uv downloads each package once into the same cache, from which image builds take it too. Our own packages are not
# installed, because then the environment would belong to one clone: PYTHONPATH finds them.
set -euo pipefail
lock=$(cd "$(dirname "$0")" && pwd)/$1
cache=${TRIMTAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/trimtab}
mkdir -p "$cache"

python=${PYTHON:-}
if [ -z "$python" ]; then
  for candidate in python3.11 python3.12 python3.13 python3; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      python=$candidate
      break
    fi
  done
fi
[ -n "$python" ] || { echo "Python 3.11 to 3.13 is not installed: apt-get install python3 python3-venv" >&2; exit 1; }

identity=$("$python" -c 'import sys; print(sys.version, sys.base_prefix)')
key=$( (cat "$lock"; echo "$identity") | sha256sum | cut -c1-12)
venv=$cache/venv-$(basename "$lock" .txt)-$key

exec 9>"$venv.lock"
flock 9
if [ ! -e "$venv/.complete" ]; then
  if ! "$python" -c 'import ensurepip' 2>/dev/null; then # Debian ships it apart
    echo "installing python3-venv (Debian keeps it apart from Python)" >&2
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv; } >&2 </dev/null
  fi
  echo "making $venv (once; $(grep -c '==' "$lock") packages)" >&2
  rm -rf "$venv"
  "$python" -m venv "$venv" >&2
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
    --requirement "$(dirname "$lock")/uv.txt" >&2 </dev/null
  index=$("$venv/bin/python" -m pip config get global.index-url 2>/dev/null || true) # uv does not read pip's settings
  index=${PIP_INDEX_URL:-$index}
  UV_CACHE_DIR=$cache/uv UV_LINK_MODE=hardlink ${index:+env UV_DEFAULT_INDEX="$index"} "$venv/bin/uv" pip install \
    --quiet --python "$venv/bin/python" --no-deps --require-hashes --only-binary :all: --compile-bytecode \
    --requirement "$lock" >&2 </dev/null
  touch "$venv/.complete"
fi
echo "$venv"
