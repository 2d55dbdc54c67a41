"""What processes share through Redis or Valkey: the events of jobs, wake-ups, and who looks. Alone imports `redis`."""
