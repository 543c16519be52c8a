# nasseg on a CPU: `docker build -t nasseg --build-arg TORCH_INDEX=ADDRESS .`, then `docker run --rm -v "$PWD:/work" nasseg` runs the quick start.
FROM python:3.11-slim

WORKDIR /source
COPY constraints.txt ./
# TORCH_INDEX: the address of PyTorch's index of CPU builds. Without it, pip takes a build with CUDA, several gigabytes.
ARG TORCH_INDEX
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} $(grep '^torch==' constraints.txt)
COPY pyproject.toml README.md LICENSE ./
COPY nasseg ./nasseg
COPY spaces ./spaces
COPY studies ./studies
RUN pip install --no-cache-dir -c constraints.txt '.[onnx,figures]'

# An ordinary user, or any other one (--user), may write here. What is cached lasts as long as the container.
RUN useradd --create-home nasseg && mkdir -m 1777 /work
ENV NASSEG_CACHE=/tmp/nasseg-cache MPLCONFIGDIR=/tmp/matplotlib
USER nasseg
WORKDIR /work
ENTRYPOINT ["nasseg"]
CMD ["search", "quickstart"]
