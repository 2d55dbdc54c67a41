"""The record of jobs, results and events: the truth. Adapters keep it in memory (for now), one contract for all."""
