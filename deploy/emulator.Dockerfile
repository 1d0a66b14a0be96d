# The AWS emulator of the tests, at the tests' own version. For trying things out, not for data.
ARG PYTHON_IMAGE=python:3.13.9-slim-bookworm
FROM ${PYTHON_IMAGE}
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY tests/services/ministack-requirements.txt /requirements.txt
RUN pip install --require-hashes --requirement /requirements.txt
ENV AUTH=true BIND_HOST=0.0.0.0 GATEWAY_PORT=4566 HOME=/tmp
USER 10001:10001
WORKDIR /tmp
EXPOSE 4566
CMD ["python", "-m", "ministack"]
