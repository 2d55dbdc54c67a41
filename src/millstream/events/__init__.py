"""Event logs: the ordered, replayable events of one job, from any process to any number of readers."""
