# The service alone: what it runs with comes from the lock file, every file checked against its hash.

FROM python:3.11-slim AS build
WORKDIR /srv/muster
RUN python -m venv /opt/muster
ENV PATH=/opt/muster/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements-drivers.lock requirements-build.lock ./
RUN pip install --require-hashes --only-binary :all: --requirement requirements-drivers.lock --requirement requirements-build.lock
COPY pyproject.toml README.md alembic.ini ./
COPY app app
COPY migrations migrations
# Editable, because the migrations stand beside the package; then without what only installing needed.
RUN pip install --no-deps --no-build-isolation --editable . \
    && pip uninstall --yes uv setuptools pip \
    && python -m compileall -q app migrations

FROM python:3.11-slim
RUN groupadd --gid 10001 muster \
    && useradd --uid 10001 --gid muster --no-create-home --home-dir /data --shell /usr/sbin/nologin muster \
    && install --directory --owner muster --group muster --mode 0700 /data
COPY --from=build /opt/muster /opt/muster
COPY --from=build /srv/muster /srv/muster
ENV PATH=/opt/muster/bin:$PATH MUSTER_DATA_DIR=/data PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /data
VOLUME /data
USER 10001:10001
EXPOSE 8000
# A proxy from the environment cannot reach this container's own address, so none is asked.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["python", "-c", \
    "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:8000/health/live', timeout=2)"]
# Several servers may start at once; the schema is changed by one step before them (`muster migrate`).
CMD ["muster", "serve", "--host", "0.0.0.0", "--no-migrate"]
