#!/bin/sh
# install LOCK...: inside an image build, puts into /opt/trimtab what those lock files of the image say.
set -eu
[ -e /opt/trimtab/bin/python ] || python3 -m venv --without-pip /opt/trimtab
[ ! -s /run/secrets/index ] || { UV_DEFAULT_INDEX=$(cat /run/secrets/index); export UV_DEFAULT_INDEX; }
[ ! -s /run/secrets/ca.pem ] || { SSL_CERT_FILE=/run/secrets/ca.pem; export SSL_CERT_FILE; }
for lock in "$@"; do
  UV_CACHE_DIR=/var/cache/uv UV_LINK_MODE=copy /opt/uv/bin/uv pip install --quiet --no-progress --no-config \
    --python /opt/trimtab/bin/python --no-deps --require-hashes --only-binary :all: --compile-bytecode \
    --requirement "/opt/trimtab/locks/$lock.txt"
done
# An image that was built once more from the same locks differs in nothing but times.
rm -f /opt/trimtab/.lock
