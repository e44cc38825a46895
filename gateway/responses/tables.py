"""The one table of kept responses. Unlike the ledger's rows, these are really deleted."""

from __future__ import annotations

from sqlalchemy import Column, Float, Index, MetaData, String, Table, Text

metadata = MetaData()
VERSION_TABLE = "kept_response_version"
"""Alembic's own table, apart from the ledger's: both may be in one database."""

kept_response = Table(
    "kept_response",
    metadata,
    Column("response_id", String(80), primary_key=True),
    Column("owner", String(200), nullable=False),  # the key that made it, or its project
    Column("at", Float, nullable=False),  # seconds since 1970, UTC
    Column("previous_id", String(80)),
    Column("input", Text, nullable=False),  # its own input items, JSON
    Column("body", Text, nullable=False),  # the response object with its output items, JSON
)

Index("kept_response_at", kept_response.c.at)
