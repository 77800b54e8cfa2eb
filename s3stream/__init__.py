"""Elastic streams on object storage: WAL, caches, objects, upload, read. Never hears of topics."""
