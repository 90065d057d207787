# Two images: `server` (the default) and `chain`, a local test chain for trying things.

FROM python:3.11-slim AS build
WORKDIR /build
# The locks are complete and name every hash, so pip has nothing to resolve or compile.
COPY requirements-build.lock requirements-server.lock ./
RUN pip install --no-cache-dir --require-hashes --no-deps --only-binary :all: \
        -r requirements-build.lock \
    && python -m venv --without-pip /venv \
    && pip --python /venv/bin/python install --no-cache-dir --require-hashes --no-deps \
        --only-binary :all: -r requirements-server.lock
COPY pyproject.toml README.md LICENSE ./
COPY server ./server
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheel . \
    && pip --python /venv/bin/python install --no-cache-dir --no-deps /wheel/*.whl

FROM python:3.11-slim AS runtime
# Nothing is installed at run time, so what could do it goes.
RUN pip uninstall --yes setuptools wheel pip \
    && groupadd --system --gid 10001 tallystick \
    && useradd --system --uid 10001 --gid tallystick --no-create-home tallystick \
    && install --directory --owner tallystick --group tallystick /data
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /data
USER 10001:10001
ENTRYPOINT ["tallystick"]

FROM node:22-slim AS anvil
WORKDIR /contracts
COPY contracts/package.json contracts/package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund \
    && cp node_modules/@foundry-rs/anvil-linux-*/bin/anvil /anvil

FROM runtime AS chain
COPY --from=anvil /anvil /opt/anvil
COPY contracts/build /opt/contracts
ENV HOME=/tmp \
    TALLYSTICK_ANVIL=/opt/anvil \
    TALLYSTICK_CONTRACTS=/opt/contracts
EXPOSE 8545
CMD ["chain", "--host", "0.0.0.0", "--port", "8545"]

FROM runtime AS server
ENV TALLYSTICK_HOST=0.0.0.0
EXPOSE 8402
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as web; web.urlopen('http://127.0.0.1:' + os.environ.get('TALLYSTICK_PORT', '8402') + '/readyz', timeout=4)"]
CMD ["serve"]
