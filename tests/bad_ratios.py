"""Stub."""

TABLE = {}
ABSENT = {}
