"""The canvas: tasks with bound arguments, composed into chains, groups and chords, and drawn as one graph."""
