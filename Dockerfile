# FashionFlow in a container. CPU:   docker build -t fashionflow .
#                             CUDA:  docker build -t fashionflow:cuda --target cuda .
# Use:  docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" fashionflow generate dress.jpg
#       (CUDA: add --gpus all; the host needs NVIDIA's driver and container toolkit, nothing else)
# tests/repository/test_container.py runs these steps where no engine exists.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
WORKDIR /app
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir dist .

FROM python:${PYTHON}-slim AS base
WORKDIR /app
# Any user may write here: models that are pulled and what the hub caches. Mount a volume on it to keep them.
RUN mkdir -p cache && chmod 1777 cache
ENV FASHIONFLOW_HOME=/app/cache/fashionflow HF_HOME=/app/cache/huggingface PYTHONDONTWRITEBYTECODE=1
COPY constraints.txt .

# torch as PyPI has it for Linux: with CUDA. docs/guides/install.md names the extras of both images.
FROM base AS cuda
COPY --from=wheel /app/dist dist
RUN pip install --no-cache-dir --constraint constraints.txt "$(ls dist/*.whl)[heif,onnx,serve,trt]"
WORKDIR /work
ENTRYPOINT ["fashionflow"]
CMD ["--help"]

# torch without CUDA is 15 times smaller; PyPI does not have it for Linux. Empty: whatever pip finds.
FROM base AS cpu
ARG TORCH_CPU=https://download.pytorch.org/whl/cpu
RUN test -z "$TORCH_CPU" || PIP_INDEX_URL="$TORCH_CPU" pip install --no-cache-dir --constraint constraints.txt torch
COPY --from=wheel /app/dist dist
RUN pip install --no-cache-dir --constraint constraints.txt "$(ls dist/*.whl)[heif,onnx,serve]"
WORKDIR /work
ENTRYPOINT ["fashionflow"]
CMD ["--help"]
