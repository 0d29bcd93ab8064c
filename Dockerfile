# The command `agit`; without arguments the Space on port 7860. See docs/guides/docker.md.
#   docker build --tag agit .
#   docker build --tag agit:cpu --build-arg TORCH_INDEX=ADDRESS .    # PyTorch's index of CPU wheels

ARG PYTHON=3.12
FROM python:${PYTHON}-slim

# An index with other builds of torch and torchvision. Those of PyPI contain CUDA.
ARG TORCH_INDEX=""
ARG EXTRAS="space,train,eval,video"
ENV PIP_NO_CACHE_DIR=1

RUN if [ -n "$TORCH_INDEX" ]; then pip install --index-url "$TORCH_INDEX" torch torchvision; fi

COPY pyproject.toml README.md LICENSE /src/
COPY agit_hub /src/agit_hub
COPY configs /src/configs
COPY space/examples /src/space/examples
COPY space/models /src/space/models
RUN pip install "/src[$EXTRAS]" && rm -r /src

RUN useradd --create-home --uid 1000 agit
USER agit
# Created here, so that volumes mounted there belong to the user.
RUN mkdir -p /home/agit/work /home/agit/.cache/huggingface
WORKDIR /home/agit/work

EXPOSE 7860
ENTRYPOINT ["agit"]
CMD ["space", "--host", "0.0.0.0", "--port", "7860"]
