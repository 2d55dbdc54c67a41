"""Results in Celery's shape: what `delay` and `apply_async` return."""
