"""Celery workers: a broker's messages wake them, and what they execute they take from the ledger."""
