# An image that scores any artifact: mount the artifact, the data and a folder for the predictions. See docs/container.md.
#     docker build --build-arg TORCH_INDEX="$TORCH_CPU" --tag bsm .        for CPUs
#     docker build --tag bsm:cuda .                                        for NVIDIA GPUs
# $TORCH_CPU is the address of PyTorch's builds for CPUs, see README.md.
FROM python:3.11-slim AS build
ARG TORCH_INDEX
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /bsm
COPY requirements.txt ./
# torch has its own layer, which is built again only if its version changes. The package index has the builds for CUDA.
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' requirements.txt)"
COPY LICENSE README.md pyproject.toml ./
COPY bsm_core bsm_core
COPY bsm_plugins_models bsm_plugins_models
COPY bsm_plugins_text bsm_plugins_text
RUN pip install --no-cache-dir --constraint requirements.txt '.[s3]'

FROM python:3.11-slim
COPY --from=build /opt/venv /opt/venv
COPY scripts/pytorch_model_inference.py /opt/bsm/
# Where nothing is mounted over the folder of the predictions, any user can write to it.
RUN mkdir --parents --mode=777 /opt/ml/processing/output/predictions
ENV PATH=/opt/venv/bin:$PATH
# Nothing is downloaded while a table is scored. `docker run --env HF_HUB_OFFLINE=0` allows it.
ENV HF_HUB_OFFLINE=1
# The programs of the GPU's driver, for the container runtime of NVIDIA; without a GPU, they have no effect.
ENV NVIDIA_VISIBLE_DEVICES=all
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
ENTRYPOINT ["python", "/opt/bsm/pytorch_model_inference.py"]
CMD ["--job_type", "inference"]
