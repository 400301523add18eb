# arr_trl for NVIDIA GPUs. Not built in the tests, which have no Docker; its commands are those of `make setup`.
#
# docker build -t arr_trl .
# docker run --gpus all --rm -v "$PWD:/work" -v "$HOME/.cache/huggingface:/root/.cache/huggingface" arr_trl doctor --config train.yaml
FROM nvidia/cuda:12.8.1-runtime-ubuntu24.04

RUN apt-get update \
    && apt-get install -y --no-install-recommends git make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY . /opt/arr_trl
WORKDIR /opt/arr_trl
RUN make setup && rm -rf /root/.cache/pip
ENV PATH=/opt/arr_trl/.venv/bin:$PATH
WORKDIR /work
ENTRYPOINT ["arr-trl"]
CMD ["--help"]
